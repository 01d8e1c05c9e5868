//! What no program of this version writes is refused, however well-formed its bytes are.

use prost::Message;

use super::{
    super::command::{StoredRegion, StoredRegionSet},
    *,
};

/// A field of a protobuf message: a message, string or packed numbers.
pub(super) fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_key(tag.into(), prost::encoding::WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    [&*bytes, content].concat()
}

/// A field of a protobuf message: a number.
pub(super) fn number(tag: u8, number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_key(tag.into(), prost::encoding::WireType::Varint, &mut bytes);
    prost::encoding::encode_varint(number.into(), &mut bytes);
    bytes
}

fn set(regions: &[u32]) -> Vec<u8> {
    StoredRegionSet { regions: regions.to_vec() }.encode_to_vec()
}

fn region(number: u32, name: &str) -> Vec<u8> {
    let (url, region_id) = ("memory:".to_owned(), String::new());
    StoredRegion { number, name: name.to_owned(), url, region_id }.encode_to_vec()
}

/// An entry of one command.
pub(super) fn entry(command: &[u8]) -> Result<Value, FrameError> {
    Value::decode(&field(2, command))
}

fn object(kind: Kind, section: &[u8]) -> Vec<u8> {
    let (ballot, parent) = (Ballot::default(), Slot::default());
    let (sequence, committed) = (Sequence(1), Sequence(1));
    let (section_len, section_crc, body_len) = (0, 0, 0);
    Head { kind, id: WriteId(5), ballot, parent, sequence, committed, section_len, section_crc, body_len }
        .encode(section)
}

fn floor(fields: &[u8]) -> Result<Floor, FrameError> {
    Floor::decode(&object(Kind::Floor, &[&field(2, &[]), &field(3, &field(1, &[7; 16])), fields].concat()))
}

pub(super) fn snapshot(fields: &[u8]) -> Result<ShardState, FrameError> {
    decode_snapshot(&object(Kind::Snapshot, fields))
}

fn install(fields: &[u8]) -> Result<Install, FrameError> {
    Install::decode(&[&field(1, &field(1, &[7; 16])), fields].concat())
}

const BEYOND: u32 = 1 << 16;

#[test]
fn a_set_of_no_regions_is_refused_wherever_it_stands() {
    let (one, none) = (set(&[65_535]), set(&[]));
    assert!(entry(&field(10, &one)).is_ok() && entry(&field(10, &none)).is_err());
    assert!(install(&field(2, &one)).is_ok() && install(&field(2, &none)).is_err());
    assert!(floor(&field(6, &one)).is_ok() && floor(&field(6, &none)).is_err());
    assert!(snapshot(&field(6, &one)).is_ok() && snapshot(&field(6, &none)).is_err());
    assert!(install(&[]).is_err(), "an install without voters");
    // Written before regions were counted.
    assert_eq!(floor(&[]).unwrap().voters, None);
    assert_eq!(snapshot(&[]).unwrap().regions, Regions::default());
}

#[test]
fn a_number_that_no_region_can_have_is_refused_wherever_it_stands() {
    for (last, beyond) in [
        (field(8, &region(BEYOND - 1, "eu")), field(8, &region(BEYOND, "eu"))),
        (field(9, &number(1, BEYOND - 1)), field(9, &number(1, BEYOND))),
        (field(10, &set(&[1, BEYOND - 1])), field(10, &set(&[1, BEYOND]))),
    ] {
        assert!(entry(&last).is_ok() && entry(&beyond).is_err(), "{beyond:?}");
    }
    let mark = |region| field(3, &number(1, region));
    assert!(Value::decode(&mark(BEYOND - 1)).is_ok() && Value::decode(&mark(BEYOND)).is_err());
    assert!(install(&field(2, &set(&[BEYOND]))).is_err());
    let mark = |region| field(7, &number(1, region));
    assert!(floor(&mark(BEYOND - 1)).is_ok() && floor(&mark(BEYOND)).is_err());
    assert!(floor(&field(6, &set(&[BEYOND]))).is_err());
    assert!(snapshot(&field(5, &region(BEYOND - 1, "eu"))).is_ok());
    assert!(snapshot(&field(5, &region(BEYOND, "eu"))).is_err());
    assert!(snapshot(&field(6, &set(&[BEYOND]))).is_err());
    assert!(snapshot(&number(7, BEYOND - 1)).is_ok() && snapshot(&number(7, BEYOND)).is_err());
}

#[test]
fn a_region_without_a_name_is_refused() {
    assert!(entry(&field(8, &region(1, ""))).is_err());
    assert!(entry(&field(8, &region(1, "a/b"))).is_err());
    assert!(snapshot(&field(5, &region(1, ""))).is_err());
}

#[test]
fn extents_of_which_only_some_say_where_they_begin_are_refused() {
    let extents = [field(4, &[]), field(4, &[])].concat();
    let firsts = |firsts: &[u8]| floor(&[extents.clone(), field(5, firsts)].concat());
    assert_eq!(firsts(&[3, 9]).unwrap().extents.iter().map(|extent| extent.first.0).collect::<Vec<_>>(), [3, 9]);
    assert!(floor(&extents).is_ok(), "none of them: it was written before regions were counted");
    assert!(firsts(&[3]).is_err());
    assert!(firsts(&[3, 9, 10]).is_err());
}

#[test]
fn an_identity_with_a_number_that_no_region_can_have_is_refused() {
    let identity = |number: u32| {
        let json = format!(
            r#"{{"region_id":"r","cluster_id":"c","region":"eu","number":{number},"format":1,"created_ms":5}}"#
        );
        RegionIdentity::decode(&[b"brigade region\n#", &[0; 16][..], b"\n", json.as_bytes()].concat())
    };
    assert_eq!(identity(BEYOND - 1).unwrap().number, 65_535);
    assert!(identity(BEYOND).is_err());
}
