//! Dates for `strftime_now`, in UTC, so that one run gives one prompt wherever it runs.

use std::time::{SystemTime, UNIX_EPOCH};

use super::TemplateError;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// A date and time in the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Civil {
    year: i64,
    /// 0 to 11.
    month: usize,
    /// 1 to 31.
    day: i64,
    /// 1 to 366.
    day_of_year: i64,
    /// 0 is Monday.
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
}

/// Formats a moment as Python's `strftime` in the C locale. The directives known are those that templates use:
/// `%a %A %b %B %d %e %H %I %j %m %M %p %S %y %Y %F %T %Z %z %%` and the forms without padding, such as `%-d`.
pub(super) fn strftime(format: &str, now: SystemTime) -> Result<String, TemplateError> {
    let date = Civil::new(now);
    let mut text = String::with_capacity(format.len() + 8);
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let mut directive = characters.next();
        let padded = directive != Some('-');
        if !padded {
            directive = characters.next();
        }
        let number = |value: i64, width: usize, fill: char| {
            if padded && fill == '0' {
                format!("{value:0width$}")
            } else if padded {
                format!("{value:width$}")
            } else {
                value.to_string()
            }
        };
        let month = MONTHS.get(date.month).copied().unwrap_or_default();
        let weekday = WEEKDAYS.get(date.weekday).copied().unwrap_or_default();
        let short = |name: &str| name.chars().take(3).collect::<String>();
        let twelve_hours = (date.hour + 11) % 12 + 1;
        text.push_str(&match directive {
            Some('Y') => number(date.year, 4, '0'),
            Some('y') => number(date.year.rem_euclid(100), 2, '0'),
            Some('m') => number(date.month as i64 + 1, 2, '0'),
            Some('d') => number(date.day, 2, '0'),
            Some('e') => number(date.day, 2, ' '),
            Some('j') => number(date.day_of_year, 3, '0'),
            Some('H') => number(date.hour, 2, '0'),
            Some('I') => number(twelve_hours, 2, '0'),
            Some('M') => number(date.minute, 2, '0'),
            Some('S') => number(date.second, 2, '0'),
            Some('B') => month.to_owned(),
            Some('b' | 'h') => short(month),
            Some('A') => weekday.to_owned(),
            Some('a') => short(weekday),
            Some('p') => if date.hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('F') => format!("{:04}-{:02}-{:02}", date.year, date.month + 1, date.day),
            Some('T') => format!("{:02}:{:02}:{:02}", date.hour, date.minute, date.second),
            // Python's `datetime.now()` has no time zone and gives nothing here.
            Some('Z' | 'z') => String::new(),
            Some('%') => "%".to_owned(),
            other => {
                return Err(TemplateError::DateDirective {
                    directive: other.map(String::from).unwrap_or_default(),
                });
            }
        });
    }
    Ok(text)
}

impl Civil {
    fn new(now: SystemTime) -> Self {
        let seconds = match now.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
        };
        let days = seconds.div_euclid(86_400);
        let second_of_day = seconds.rem_euclid(86_400);

        // Days are counted from 1 March of year 0 in eras of 400 years, where every year ends with its leap day.
        let shifted = days.saturating_add(719_468);
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_from_march + 2) / 153;
        let month = (month_from_march + 2) % 12;
        let year = year_of_era + era * 400 + i64::from(month < 2);
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        // 1 January is 306 days after 1 March.
        let day_of_year = if month < 2 {
            day_from_march - 306 + 1
        } else {
            day_from_march + 59 + i64::from(leap) + 1
        };
        Self {
            year,
            month: month as usize,
            day: day_from_march - (153 * month_from_march + 2) / 5 + 1,
            day_of_year,
            // 1 January 1970 was a Thursday.
            weekday: (days.rem_euclid(7) + 3).rem_euclid(7) as usize,
            hour: second_of_day / 3_600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Expected texts from Python: `datetime.fromtimestamp(s, timezone.utc).replace(tzinfo=None).strftime(f)`.
    #[test]
    fn dates_are_those_of_python() {
        let format = "%Y-%m-%d %H:%M:%S %a %A %b %B %j %p %I %-d %y %F %T|%Z|%%";
        for (seconds, expected) in [
            (
                0,
                "1970-01-01 00:00:00 Thu Thursday Jan January 001 AM 12 1 70 1970-01-01 00:00:00||%",
            ),
            (
                951_782_400,
                "2000-02-29 00:00:00 Tue Tuesday Feb February 060 AM 12 29 00 2000-02-29 00:00:00||%",
            ),
            (
                1_735_689_599,
                "2024-12-31 23:59:59 Tue Tuesday Dec December 366 PM 11 31 24 2024-12-31 23:59:59||%",
            ),
            (
                1_772_323_200,
                "2026-03-01 00:00:00 Sun Sunday Mar March 060 AM 12 1 26 2026-03-01 00:00:00||%",
            ),
            (
                4_107_542_400,
                "2100-03-01 00:00:00 Mon Monday Mar March 060 AM 12 1 00 2100-03-01 00:00:00||%",
            ),
        ] {
            let now = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(strftime(format, now).unwrap(), expected);
        }
    }

    #[test]
    fn an_unknown_directive_is_named() {
        let error = strftime("%d %Q", UNIX_EPOCH).unwrap_err();
        assert_eq!(error.to_string(), "strftime_now: unknown directive `%Q`");
        assert!(strftime("100%", UNIX_EPOCH).is_err());
    }
}
