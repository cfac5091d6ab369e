//! What a sound file says is what the index says.

use lm_core::weights::gguf::{Array, GgmlType, Gguf, GgufError, Metadata, Value};

use crate::builder::{Builder, array, sound, string, tensor_type, value_type::*};

#[test]
fn the_index_names_the_place_of_every_tensor() {
    let file = sound().build();
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!((gguf.version(), gguf.alignment()), (3, 32));
    assert_eq!(gguf.data_offset() + 32 + 18, file.len());

    let plain = gguf.require("plain").unwrap();
    assert_eq!(plain.shape, [2, 4], "row-major, where the file has [4, 2]");
    assert_eq!((plain.ty, plain.weights()), (GgmlType::F32, 8));
    assert_eq!(plain.range, gguf.data_offset()..gguf.data_offset() + 32);
    assert_eq!(plain.bytes(&file).unwrap()[..4], 1_f32.to_le_bytes());

    let quantized = gguf.require("quantized").unwrap();
    assert_eq!((quantized.ty, quantized.weights()), (GgmlType::Q4_0, 32));
    let names: Vec<_> = gguf
        .tensors()
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
    assert_eq!(names, ["plain", "quantized"]);

    assert!(gguf.tensor("absent").is_none());
    let error = gguf.require("absent").unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"tensor "absent" is missing from the file"#
    );
}

#[test]
fn version_2_reads_as_version_3() {
    let gguf = Gguf::parse(&sound().version(2).build()).unwrap();
    assert_eq!((gguf.version(), gguf.tensors().len()), (2, 2));
}

#[test]
fn padding_after_the_last_tensor_is_allowed_up_to_the_alignment() {
    let padded = sound().pad().build();
    assert_eq!(Gguf::parse(&padded).unwrap().tensors().len(), 2);
    // 14 bytes of padding are complete; one fewer than another 32 still cannot hold anything.
    let more = [padded.as_slice(), &[0; 17]].concat();
    assert!(Gguf::parse(&more).is_ok());
    assert!(Gguf::parse(&[more.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn a_file_without_tensors_is_a_vocabulary() {
    let file = Builder::new()
        .string_entry("general.type", b"vocab")
        .build();
    let gguf = Gguf::parse(&file).unwrap();
    assert!(gguf.tensors().is_empty());
    assert_eq!(gguf.metadata().str("general.type").unwrap(), "vocab");
}

#[test]
fn another_alignment_is_followed() {
    let file = Builder::new()
        .entry(b"general.alignment", UINT32, &64_u32.to_le_bytes())
        .padded_to(64)
        .tensor(b"a", &[1], tensor_type::F32, 0)
        .tensor(b"b", &[], tensor_type::F32, 64)
        .data(&1_f32.to_le_bytes())
        .pad()
        .data(&2_f32.to_le_bytes())
        .build();
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!((gguf.alignment(), gguf.data_offset() % 64), (64, 0));
    let scalar = gguf.require("b").unwrap();
    assert!(scalar.shape.is_empty());
    let mut weight = [0.0];
    scalar.dequantize(&file, &mut weight).unwrap();
    assert_eq!(weight, [2.0]);
}

#[test]
fn every_value_type_is_read() {
    let file = Builder::new()
        .entry(b"u8", UINT8, &[200])
        .entry(b"i8", INT8, &[0x80])
        .entry(b"u16", UINT16, &60_000_u16.to_le_bytes())
        .entry(b"i16", INT16, &(-30_000_i16).to_le_bytes())
        .entry(b"u32", UINT32, &4_000_000_000_u32.to_le_bytes())
        .entry(b"i32", INT32, &(-2_000_000_000_i32).to_le_bytes())
        .entry(b"f32", FLOAT32, &1.5_f32.to_le_bytes())
        .entry(b"bool", BOOL, &[1])
        .string_entry("string", "grüß dich".as_bytes())
        .entry(b"u64", UINT64, &u64::MAX.to_le_bytes())
        .entry(b"i64", INT64, &i64::MIN.to_le_bytes())
        .entry(b"f64", FLOAT64, &0.1_f64.to_le_bytes())
        .array_entry(
            "i32s",
            INT32,
            2,
            &[(-1_i32).to_le_bytes(), 7_i32.to_le_bytes()].concat(),
        )
        .array_entry("f32s", FLOAT32, 1, &0.5_f32.to_le_bytes())
        .array_entry("bools", BOOL, 2, &[1, 0])
        .array_entry(
            "strings",
            STRING,
            3,
            &[string(b"a"), string(b""), string("é".as_bytes())].concat(),
        )
        .array_entry(
            "arrays",
            ARRAY,
            2,
            &[array(UINT8, 1, &[9]), array(STRING, 0, &[])].concat(),
        )
        .build();
    let gguf = Gguf::parse(&file).unwrap();
    let metadata = gguf.metadata();
    let expected = [
        ("u8", Value::U8(200)),
        ("i8", Value::I8(-128)),
        ("u16", Value::U16(60_000)),
        ("i16", Value::I16(-30_000)),
        ("u32", Value::U32(4_000_000_000)),
        ("i32", Value::I32(-2_000_000_000)),
        ("f32", Value::F32(1.5)),
        ("bool", Value::Bool(true)),
        ("string", Value::String("grüß dich".into())),
        ("u64", Value::U64(u64::MAX)),
        ("i64", Value::I64(i64::MIN)),
        ("f64", Value::F64(0.1)),
    ];
    for ((key, value), (found_key, found)) in expected.iter().zip(metadata.iter()) {
        assert_eq!((found_key, found), (*key, value));
    }
    assert_eq!(metadata.len(), 17);
    assert_eq!(metadata.i32s("i32s").unwrap(), [-1, 7]);
    assert_eq!(metadata.f32s("f32s").unwrap(), [0.5]);
    assert_eq!(metadata.bools("bools").unwrap(), [true, false]);
    let strings = metadata.strings("strings").unwrap();
    assert_eq!(strings.iter().collect::<Vec<_>>(), ["a", "", "é"]);
    assert_eq!((strings.get(2), strings.get(3)), (Some("é"), None));
    let arrays = Array::Array(vec![Array::U8(vec![9]), Array::String(Default::default())]);
    assert_eq!(metadata.get("arrays"), Some(&Value::Array(arrays)));

    assert_eq!(metadata.u64("u8").unwrap(), 200);
    assert_eq!(metadata.u64("u64").unwrap(), u64::MAX);
    assert_eq!(metadata.u32("u32").unwrap(), 4_000_000_000);
    assert_eq!(metadata.usize("u16").unwrap(), 60_000);
}

/// The message of the error a getter gives.
fn refusal<'a, T: std::fmt::Debug>(
    metadata: &'a Metadata,
    key: &str,
    get: fn(&'a Metadata, &str) -> Result<T, GgufError>,
) -> String {
    get(metadata, key).unwrap_err().to_string()
}

#[test]
fn a_getter_names_the_key_and_both_types() {
    let file = Builder::new()
        .entry(b"text", STRING, &string(b"3"))
        .entry(b"minus", INT32, &(-3_i32).to_le_bytes())
        .entry(b"large", UINT64, &(1_u64 << 32).to_le_bytes())
        .entry(b"double", FLOAT64, &1_f64.to_le_bytes())
        .entry(b"one", UINT8, &[1])
        .array_entry("scores", UINT8, 3, &[1, 2, 3])
        .array_entry("types", UINT32, 1, &1_u32.to_le_bytes())
        .array_entry("minus_one", INT8, 2, &[1, 0xff])
        .array_entry("names", ARRAY, 1, &array(UINT8, 0, &[]))
        .build();
    let gguf = Gguf::parse(&file).unwrap();
    let metadata = gguf.metadata();
    let integer = "an integer from 0 to 2^64 - 1";
    let refusals = [
        (
            refusal(metadata, "absent", Metadata::str),
            r#"metadata key "absent" is missing, expected string"#.to_owned(),
        ),
        (
            refusal(metadata, "text", Metadata::u64),
            format!(r#"metadata key "text": expected {integer}, found string"#),
        ),
        (
            refusal(metadata, "minus", Metadata::u64),
            format!(r#"metadata key "minus": expected {integer}, found -3"#),
        ),
        (
            refusal(metadata, "large", Metadata::u32),
            r#"metadata key "large": expected an integer from 0 to 2^32 - 1, found 4294967296"#
                .to_owned(),
        ),
        (
            refusal(metadata, "double", Metadata::f32),
            r#"metadata key "double": expected float32, found float64"#.to_owned(),
        ),
        (
            refusal(metadata, "one", Metadata::bool),
            r#"metadata key "one": expected bool, found uint8"#.to_owned(),
        ),
        (
            refusal(metadata, "one", Metadata::str),
            r#"metadata key "one": expected string, found uint8"#.to_owned(),
        ),
        (
            refusal(metadata, "scores", Metadata::f32s),
            r#"metadata key "scores": expected array of float32, found array of 3 uint8"#
                .to_owned(),
        ),
        (
            refusal(metadata, "types", Metadata::i32s),
            r#"metadata key "types": expected array of int32, found array of 1 uint32"#.to_owned(),
        ),
        (
            refusal(metadata, "names", Metadata::strings),
            r#"metadata key "names": expected array of string, found array of 1 array"#.to_owned(),
        ),
        (
            refusal(metadata, "scores", Metadata::bools),
            r#"metadata key "scores": expected array of bool, found array of 3 uint8"#.to_owned(),
        ),
        (
            refusal(metadata, "names", Metadata::u64s),
            r#"metadata key "names": expected array of integers, found array of 1 array"#
                .to_owned(),
        ),
        (
            refusal(metadata, "minus_one", Metadata::u64s),
            r#"metadata key "minus_one": expected an array of integers from 0 to 2^64 - 1, found -1"#.to_owned(),
        ),
    ];
    for (found, expected) in refusals {
        assert_eq!(found, expected);
    }
    assert_eq!(metadata.u64s("scores").unwrap(), [1, 2, 3]);
}

#[test]
fn an_optional_key_may_be_absent_but_not_wrong() {
    let gguf = Gguf::parse(&sound().build()).unwrap();
    let metadata = gguf.metadata();
    assert_eq!(metadata.optional("absent", Metadata::u64), Ok(None));
    assert_eq!(
        metadata.optional("general.architecture", Metadata::str),
        Ok(Some("llama"))
    );
    assert!(
        metadata
            .optional("general.architecture", Metadata::u64)
            .is_err()
    );
}

#[test]
fn bytes_of_another_file_are_refused() {
    let gguf = Gguf::parse(&sound().build()).unwrap();
    let error = gguf
        .require("quantized")
        .unwrap()
        .bytes(&[0; 10])
        .unwrap_err();
    let start = gguf.data_offset() + 32;
    assert_eq!(
        error.to_string(),
        format!(
            r#"tensor "quantized": bytes {start} to {} lie outside the 10 bytes given; is this the file that was parsed?"#,
            start + 18
        )
    );
}

#[test]
fn the_index_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + Unpin + 'static>() {}
    shared::<Gguf>();
    shared::<GgufError>();
}
