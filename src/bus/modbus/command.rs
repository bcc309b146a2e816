//! From a command to the request that carries it out. Pure.

use super::pdu::Request;
use crate::bus::{Device, Source, Table, Write, decode};
use crate::reading::{CommandError, Value};

/// The request that writes `value` to the point of that name: function 5 for a bit, 6 for one register, 16 for more.
/// With it, the point's index.
///
/// # Errors
/// [`CommandError::NotWritable`] and [`CommandError::BadValue`].
pub(crate) fn request(device: &Device, point: &str, value: &Value) -> Result<(usize, Request), CommandError> {
    let index = device.points.iter().position(|p| &*p.name == point).ok_or(CommandError::NotWritable)?;
    let point = &device.points[index];
    let (Some(limits), Source::Modbus { table, address }) = (&point.write, &point.source) else {
        return Err(CommandError::NotWritable);
    };
    within(*limits, value)?;
    let address = *address;
    let request = match table {
        Table::Coil => {
            let value = decode::encode_bit(&point.decode, value).map_err(CommandError::BadValue)?;
            Request::WriteCoil { address, value }
        }
        Table::Holding => {
            let values = decode::encode(&point.decode, value).map_err(|why| {
                CommandError::BadValue(if number(value).is_none() { why + &hint(limits) } else { why })
            })?;
            // What the device gets is rounded, and may be over the limit by that.
            within(*limits, &decode::registers(&point.decode, &values).map_err(CommandError::BadValue)?)?;
            match values[..] {
                [value] => Request::WriteRegister { address, value },
                _ => Request::WriteRegisters { address, values },
            }
        }
        Table::Discrete | Table::Input => return Err(CommandError::NotWritable),
    };
    Ok((index, request))
}

/// Whether a number is within the limits; what is none has no limits.
fn within(limits: Write, value: &Value) -> Result<(), CommandError> {
    let Some(number) = number(value) else { return Ok(()) };
    if !number.is_finite() {
        return Err(CommandError::BadValue(format!("{number} is no number that can be written")));
    }
    let low = limits.min.filter(|min| number < *min).map(|min| format!("{number} is below the least, {min}"));
    let high = limits.max.filter(|max| number > *max).map(|max| format!("{number} is above the most, {max}"));
    low.or(high).map_or(Ok(()), |why| Err(CommandError::BadValue(why)))
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(i) => Some(*i as f64),
        Value::Float(x) => Some(*x),
        Value::Null | Value::Bool(_) | Value::Text(_) => None,
    }
}

/// The limits, for one who did not come to be measured against them: the type's range alone would mislead.
fn hint(limits: &Write) -> String {
    match (limits.min, limits.max) {
        (Some(min), Some(max)) => format!(", within the limits {min} to {max}"),
        (Some(min), None) => format!(", from {min} up"),
        (None, Some(max)) => format!(", up to {max}"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{decode::Kind, fixture};

    #[test]
    fn the_function_follows_from_the_point() {
        let mut device = fixture::device("tank", 1, &[7]);
        let of = |device: &Device, value| request(device, "r7", &value).map(|(_, request)| request);
        assert_eq!(of(&device, Value::Int(5)), Ok(Request::WriteRegister { address: 7, value: 5 }));
        device.points[0].decode.kind = Kind::U32;
        assert_eq!(of(&device, Value::Int(5)), Ok(Request::WriteRegisters { address: 7, values: vec![0, 5] }));
        device.points[0].decode.kind = Kind::Bool;
        device.points[0].source = Source::Modbus { table: Table::Coil, address: 7 };
        assert_eq!(of(&device, Value::Bool(true)), Ok(Request::WriteCoil { address: 7, value: true }));
    }

    #[test]
    fn limits_types_and_points_are_checked() {
        let mut device = fixture::device("tank", 1, &[7]);
        let of = |device: &Device, point, value| request(device, point, &value).map(drop);
        let above = Err(CommandError::BadValue("1001 is above the most, 1000".into()));
        assert_eq!(of(&device, "r7", Value::Int(1001)), above);
        assert!(matches!(of(&device, "r7", Value::Float(f64::NAN)), Err(CommandError::BadValue(_))));
        assert!(matches!(of(&device, "r7", Value::Int(-1)), Err(CommandError::BadValue(_))));
        let text = of(&device, "r7", Value::Text("much".into())).map_err(|e| e.to_string());
        assert!(text.is_err_and(|why| why.starts_with("`much` does not fit") && why.ends_with(", up to 1000")));
        device.points[0].decode.scale = 10.0;
        device.points[0].write = Some(Write { min: None, max: Some(96.0) });
        let rounded = Err(CommandError::BadValue("100 is above the most, 96".into()));
        assert_eq!(of(&device, "r7", Value::Int(96)), rounded);
        assert_eq!(of(&device, "r7", Value::Int(94)), Ok(()));
        assert_eq!(of(&device, "r8", Value::Int(1)), Err(CommandError::NotWritable));
        device.points[0].write = None;
        assert_eq!(of(&device, "r7", Value::Int(1)), Err(CommandError::NotWritable));
    }
}
