use super::*;

const ORDERS: [Order; 4] = [Order::Abcd, Order::Cdab, Order::Badc, Order::Dcba];

fn scaled(kind: Kind, scale: f64, offset: f64) -> Decode {
    Decode { scale, offset, ..kind.into() }
}

fn text_of(value: &str) -> Value {
    Value::Text(value.into())
}

#[test]
fn reads_each_type() {
    let cases: &[(Kind, &[u16], Value)] = &[
        (Kind::Bool, &[0], Value::Bool(false)),
        (Kind::Bool, &[0x0100], Value::Bool(true)),
        (Kind::U16, &[0xFFFE], Value::Int(65534)),
        (Kind::I16, &[0xFFFE], Value::Int(-2)),
        (Kind::U32, &[0xFFFF, 0xFFFE], Value::Int(4_294_967_294)),
        (Kind::I32, &[0xFFFF, 0xFFFE], Value::Int(-2)),
        (Kind::U64, &[0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF], Value::Int(u64::MAX.into())),
        (Kind::I64, &[0x8000, 0, 0, 0], Value::Int(i64::MIN.into())),
        (Kind::F32, &[0x4366, 0x6666], Value::Float(230.4)),
        (Kind::F64, &[0x4009, 0x21FB, 0x5444, 0x2D18], Value::Float(std::f64::consts::PI)),
        (Kind::String(5), &[0x4142, 0x4320, 0x2058], text_of("ABC")),
        (Kind::String(6), &[0x4142, 0x4300, 0x5858], text_of("ABC")),
    ];
    for (kind, words, value) in cases {
        assert_eq!(registers(&(*kind).into(), words).as_ref(), Ok(value), "{kind}");
    }
}

#[test]
fn reads_each_order() {
    let read = |kind: Kind, order, words: &[u16]| registers(&Decode { order, ..kind.into() }, words);
    for (order, words) in
        ORDERS.into_iter().zip([[0x0102, 0x0304], [0x0304, 0x0102], [0x0201, 0x0403], [0x0403, 0x0201]])
    {
        assert_eq!(read(Kind::U32, order, &words), Ok(Value::Int(0x0102_0304)), "{order}");
    }
    assert_eq!(read(Kind::U64, Order::Cdab, &[4, 3, 2, 1]), Ok(Value::Int(0x0001_0002_0003_0004)));
    assert_eq!(read(Kind::U16, Order::Badc, &[0x3412]), Ok(Value::Int(0x1234)));
    assert_eq!(read(Kind::U16, Order::Cdab, &[0x1234]), Ok(Value::Int(0x1234)));
    assert_eq!(read(Kind::String(4), Order::Badc, &[0x4241, 0x4443]), Ok(text_of("ABCD")));
    assert_eq!(read(Kind::String(4), Order::Cdab, &[0x4142, 0x4344]), Ok(text_of("ABCD")));
}

#[test]
fn scales_as_on_paper() {
    let cases = [
        (2314, 0.1, 0.0, "231.4"),
        (3, 0.1, 0.0, "0.3"),
        (7, 0.7, 0.0, "4.9"),
        (2981, 0.1, -273.15, "24.95"),
        (1, 0.001, 0.0, "0.001"),
        (300, 0.01, 0.0, "3"),
        (5, 2.5, 0.0, "12.5"),
        (5, 10.0, -3.0, "47"),
        (3, 1.0 / 3.0, 0.0, "1"),
    ];
    for (raw, scale, offset, shown) in cases {
        let value = registers(&scaled(Kind::U16, scale, offset), &[raw]).expect("one register");
        assert_eq!(value.to_string(), shown, "{raw} * {scale} + {offset}");
        assert_eq!(matches!(value, Value::Int(_)), scale.fract() == 0.0, "{value:?}");
    }
    for raw in 0..=u16::MAX {
        let value = registers(&scaled(Kind::U16, 0.1, 0.0), &[raw]).expect("one register");
        let on_paper = if raw % 10 == 0 { format!("{}", raw / 10) } else { format!("{}.{}", raw / 10, raw % 10) };
        assert_eq!(value.to_string(), on_paper);
    }
    let [high, low] = [0x4366, 0x6666];
    let tenth = registers(&scaled(Kind::F32, 0.1, 0.0), &[high, low]).expect("two registers");
    assert_eq!(tenth.to_string(), "23.04");
}

#[test]
fn huge_scales_end_as_floats_or_nothing() {
    let max = [0xFFFF; 4];
    assert_eq!(registers(&scaled(Kind::U64, 1e30, 0.0), &max), Ok(Value::Float(u64::MAX as f64 * 1e30)));
    assert_eq!(registers(&scaled(Kind::U64, f64::MAX, 0.0), &max), Ok(Value::Null));
}

#[test]
fn sentinels_and_what_is_no_number_are_null() {
    let sentinel = |kind: Kind, null: i64| Decode { null: vec![null], ..kind.into() };
    let null: &[(Kind, i64, &[u16])] = &[
        (Kind::U16, 0xFFFF, &[0xFFFF]),
        (Kind::U16, -1, &[0xFFFF]),
        (Kind::I16, 0x8000, &[0x8000]),
        (Kind::I16, -32768, &[0x8000]),
        (Kind::U32, 0xFFFF_FFFF, &[0xFFFF, 0xFFFF]),
        (Kind::U64, -1, &[0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF]),
        (Kind::F32, -9999, &[0xC61C, 0x3C00]),
        (Kind::Bool, 0xFFFF, &[0xFFFF]),
    ];
    for (kind, null, words) in null {
        assert_eq!(registers(&sentinel(*kind, *null), words), Ok(Value::Null), "{kind} {null}");
    }
    assert_eq!(registers(&sentinel(Kind::U16, 0x1_0000), &[0]), Ok(Value::Int(0)));
    assert_eq!(registers(&sentinel(Kind::I32, 0xFFFF), &[0xFFFF, 0xFFFF]), Ok(Value::Int(-1)));
    for bits in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(f32::to_bits) {
        let words = [(bits >> 16) as u16, bits as u16];
        assert_eq!(registers(&Kind::F32.into(), &words), Ok(Value::Null));
    }
}

#[test]
fn refuses_what_is_no_value() {
    assert!(registers(&Kind::U32.into(), &[1]).is_err_and(|e| e.contains("2 registers, not 1")));
    assert!(registers(&Kind::String(2).into(), &[0xFFFE]).is_err_and(|e| e.contains("\\xff\\xfe")));
    assert!(registers(&Kind::Number.into(), &[1]).is_err());
    assert!(text(&Kind::U16.into(), "1", None).is_err());
}

#[test]
fn reads_fields() {
    let read = |kind: Kind, field, next| text(&kind.into(), field, next);
    assert_eq!(read(Kind::Number, " 545.4 ", None), Ok(Value::Float(545.4)));
    assert_eq!(read(Kind::Number, "nan", None), Ok(Value::Null));
    assert_eq!(read(Kind::Number, "09", None), Ok(Value::Int(9)));
    assert_eq!(read(Kind::Number, "-9.0", None), Ok(Value::Float(-9.0)));
    assert_eq!(text(&scaled(Kind::Number, 10.0, 1.0), "+9", None), Ok(Value::Int(91)));
    assert_eq!(text(&Decode { null: vec![-1], ..Kind::Number.into() }, "-1", None), Ok(Value::Null));
    assert_eq!(text(&scaled(Kind::Number, 0.1, 1.0), "2314", None), Ok(Value::Float(232.4)));
    assert_eq!(read(Kind::Text, "A", None), Ok(text_of("A")));
    assert_eq!(read(Kind::Ddmm, "4807.038", Some("N")), Ok(Value::Float(48.1173)));
    assert_eq!(read(Kind::Ddmm, "01131.000", Some("W")), Ok(Value::Float(-(11.0 + 31.0 / 60.0))));
    assert_eq!(read(Kind::Ddmm, "9000.000000000", Some("S")), Ok(Value::Float(-90.0)));
    for kind in [Kind::Number, Kind::Text, Kind::Ddmm] {
        assert_eq!(read(kind, "", Some("")), Ok(Value::Null));
    }
    assert!(read(Kind::Number, "12a", None).is_err());
    let wrong = [
        ("4807.038", None),
        ("4807.038", Some("X")),
        ("9000.1", Some("N")),
        ("18000.1", Some("E")),
        ("4860.0", Some("N")),
        ("48", Some("N")),
        ("-4807.0", Some("N")),
        ("4807.0.1", Some("N")),
        ("48é7.0", Some("N")),
        ("4807.0123456789", Some("N")),
    ];
    for (field, next) in wrong {
        assert!(read(Kind::Ddmm, field, next).is_err(), "{field} {next:?}");
    }
}

#[test]
fn bits_are_truths_or_numbers() {
    assert_eq!(bit(&Kind::Bool.into(), true), Value::Bool(true));
    assert_eq!(bit(&scaled(Kind::U16, 5.0, 1.0), true), Value::Int(6));
    for (kind, on) in [(Kind::Bool, true), (Kind::Bool, false), (Kind::U16, true), (Kind::F32, false)] {
        let decode = scaled(kind, 5.0, 1.0);
        assert_eq!(encode_bit(&decode, &bit(&decode, on)), Ok(on));
    }
    for (text, on) in [("on", true), ("OFF", false), ("1", true), ("False", false)] {
        assert_eq!(encode_bit(&Kind::Bool.into(), &text_of(text)), Ok(on));
    }
    assert_eq!(encode_bit(&Kind::Bool.into(), &Value::Int(1)), Ok(true));
    for wrong in [Value::Int(2), Value::Null, text_of("maybe")] {
        assert!(encode_bit(&Kind::Bool.into(), &wrong).is_err_and(|e| e.contains("true or false")));
    }
    assert!(encode_bit(&scaled(Kind::U16, 5.0, 1.0), &Value::Int(5)).is_err_and(|e| e.contains("1 or 6 would")));
}

#[test]
fn writes_the_nearest_raw_value() {
    let tenths = scaled(Kind::U16, 0.1, 0.0);
    assert_eq!(encode(&tenths, &Value::Float(231.4)), Ok(vec![2314]));
    assert_eq!(encode(&tenths, &Value::Float(0.06)), Ok(vec![1]));
    assert_eq!(encode(&tenths, &Value::Int(-0)), Ok(vec![0]));
    assert_eq!(encode(&scaled(Kind::I16, -2.0, 10.0), &Value::Int(16)), Ok(vec![0xFFFD]));
    assert_eq!(encode(&scaled(Kind::U16, 1.0 / 3.0, 0.0), &Value::Int(1)), Ok(vec![3]));
    assert_eq!(encode(&Kind::U64.into(), &Value::Int(u64::MAX.into())), Ok(vec![0xFFFF; 4]));
    assert_eq!(encode(&Kind::String(3).into(), &text_of("ab")), Ok(vec![0x6162, 0]));
    assert_eq!(encode(&Kind::Bool.into(), &text_of("ON")), Ok(vec![1]));
}

#[test]
fn refuses_to_write_what_does_not_fit_and_says_what_does() {
    let cases = [
        (scaled(Kind::U16, 0.1, 0.0), Value::Float(6553.6), "6553.6 does not fit; a number from 0 to 6553.5 would"),
        (scaled(Kind::I16, -1.0, 0.0), Value::Int(40000), "a number from -32767 to 32768"),
        (Kind::U16.into(), Value::Int(-1), "from 0 to 65535"),
        (Kind::U16.into(), Value::Int(i128::MAX), "from 0 to 65535"),
        (Kind::U64.into(), Value::Float(1e300), "from 0 to 18446744073709551615"),
        (Kind::U16.into(), Value::Bool(true), "true does not fit; a number"),
        (Kind::U16.into(), text_of("on"), "`on` does not fit; a number"),
        (Kind::U16.into(), Value::Null, "null does not fit"),
        (scaled(Kind::U16, 0.0, 0.0), Value::Int(1), "does not fit"),
        (Kind::F32.into(), Value::Float(1e39), "32 bits"),
        (Kind::F64.into(), text_of("x"), "64 bits"),
        (Kind::Bool.into(), Value::Int(2), "true or false"),
        (Kind::String(3).into(), text_of("abcd"), "text of at most 3 bytes"),
        (Kind::String(3).into(), Value::Int(1), "text of at most 3 bytes"),
        (Kind::Number.into(), Value::Int(1), "cannot be written"),
    ];
    for (decode, value, says) in cases {
        let error = encode(&decode, &value).expect_err("does not fit");
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn what_is_written_reads_back_as_the_same() {
    let kinds = [Kind::U16, Kind::I16, Kind::U32, Kind::I32, Kind::U64, Kind::I64, Kind::F32, Kind::F64];
    let scales = [(1.0, 0.0), (0.1, 0.0), (0.01, -40.0), (-0.5, 3.0), (10.0, 7.0), (1.0 / 3.0, 0.0)];
    let mut random = fastrand::Rng::with_seed(20);
    for kind in kinds {
        for order in ORDERS {
            for (scale, offset) in scales {
                let decode = Decode { order, ..scaled(kind, scale, offset) };
                for _ in 0..300 {
                    let raw: Vec<u16> = (0..decode.words()).map(|_| random.u16(..)).collect();
                    let value = registers(&decode, &raw).expect("every bit pattern is a value");
                    if value == Value::Null {
                        continue;
                    }
                    let again = encode(&decode, &value).expect("it came from there");
                    let exact = matches!(kind, Kind::U16 | Kind::I16 | Kind::U32 | Kind::I32) || scale == 1.0;
                    if exact && value != Value::Float(0.0) {
                        assert_eq!(again, raw, "{decode:?} {value:?}");
                    } else if let (Value::Float(wanted), Ok(Value::Float(got))) = (&value, registers(&decode, &again)) {
                        // 64 bits, scaled, are more than a float holds.
                        assert!((wanted - got).abs() <= wanted.abs() * 1e-6, "{decode:?} {value:?} {got}");
                    }
                }
            }
        }
    }
    for bytes in 1..20_u16 {
        for order in ORDERS {
            let decode = Decode { order, ..Kind::String(bytes).into() };
            let value: String = (0..random.u16(0..=bytes)).map(|_| random.alphanumeric()).collect();
            let words = encode(&decode, &text_of(&value)).expect("it fits");
            assert_eq!(registers(&decode, &words), Ok(text_of(&value)));
        }
    }
}
