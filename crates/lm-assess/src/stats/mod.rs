//! Statistics: intervals, tests, agreement, rank comparison. Pure functions in `f64`.
//!
//! | question | function |
//! | --- | --- |
//! | a rate and how sure it is | [`wilson`]; never below its level: [`clopper_pearson`] |
//! | two rates, different items | [`difference`] |
//! | two rates, the same items | [`mcnemar`], [`paired_difference`] |
//! | a rate that an erring judge counted | [`corrected_rate`] |
//! | any statistic, independent or clustered items | [`bootstrap`] with a [`Design`] |
//! | two means, without a distribution | [`two_sample_permutation`], [`paired_permutation`] |
//! | two groups, by order | [`mann_whitney`] |
//! | many tests at once | [`holm`], [`benjamini_hochberg`] |
//! | do raters agree | [`cohen_kappa`], [`kappa_of_table`], [`fleiss_kappa`], [`krippendorff_alpha`] |
//! | decisions against the truth | [`Decisions`], [`ConfusionMatrix`] |
//! | scores against the truth | [`auroc`], [`roc_curve`]; two scores: [`delong_test`] |
//! | time until something happens | [`kaplan_meier`], [`log_rank`] |
//! | do two orders agree | [`kendall`], [`spearman`], [`rank_biased_overlap`] |
//! | how much few hold of the whole | [`gini`] |
//!
//! What has no denominator is `None`, never 0 or NaN: the rate of no trials, an area with one class, a kappa where chance agrees
//! always. What cannot be right is an error that names the argument. p-values are two-sided unless an alternative is asked
//! for.
//!
//! Every draw is a function of (seed, replicate): replicates can be computed in any order, or apart, and joined.
//!
//! ```
//! use lm_assess::stats::{Design, BootstrapOptions, bootstrap, wilson};
//!
//! let refused = [true, true, false, true, true, false, true, true];
//! let dialogue = [1, 1, 2, 2, 3, 3, 4, 4];
//!
//! let rate = |items: &[usize]| {
//!     let yes = items.iter().filter(|&&item| refused[item]).count();
//!     (!items.is_empty()).then(|| yes as f64 / items.len() as f64)
//! };
//! let alone = wilson(6, 8, 0.95)?;
//! let together = bootstrap(&Design::clusters(&dialogue), &BootstrapOptions::default(), rate)?;
//! assert_eq!(alone.map(|found| found.estimate), together.map(|found| found.estimate));
//! # Ok::<(), lm_assess::stats::StatsError>(())
//! ```

mod agreement;
mod bootstrap;
mod check;
mod classification;
mod error;
mod judge_error;
mod multiple;
mod overlap;
mod paired;
mod permutation;
mod proportions;
mod random;
mod ranks;
mod roc;
mod special;
mod survival;

pub use agreement::{
    Kappa, KappaWeights, PanelAgreement, cohen_kappa, fleiss_kappa, kappa_of_table,
    krippendorff_alpha,
};
pub use bootstrap::{
    BootstrapEstimate, BootstrapMethod, BootstrapOptions, Design, bca_interval, bootstrap,
    percentile_interval, replicates,
};
pub use classification::{ConfusionMatrix, Decisions};
pub use error::{Result, StatsError};
pub use judge_error::{JudgeValidation, corrected_rate};
pub use multiple::{benjamini_hochberg, holm};
pub use overlap::{RankBiasedOverlap, gini, rank_biased_overlap};
pub use paired::{McNemar, PairedMethod, Pairs, mcnemar, paired_difference};
pub use permutation::{
    Alternative, Permutation, PermutationOptions, paired_permutation, two_sample_permutation,
};
pub use proportions::{Estimate, clopper_pearson, difference, wilson};
pub use ranks::{MannWhitney, RankCorrelation, kendall, mann_whitney, ranks, spearman};
pub use roc::{Auroc, DeLong, RocPoint, auroc, delong_test, roc_curve};
pub use survival::{LogRank, Survival, SurvivalStep, kaplan_meier, log_rank};
