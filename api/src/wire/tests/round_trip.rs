//! What is published is what is read.

use brigade_index::batch::Compression;

use super::*;

/// A read answer as a client that knows nothing of us sees it.
#[derive(serde::Deserialize)]
struct Answer {
    messages: Vec<serde_json::Map<String, serde_json::Value>>,
    next_offset: u64,
    high_watermark: u64,
}

/// Turns a read message into one to publish: publishing takes no offset.
fn to_publish(mut message: serde_json::Map<String, serde_json::Value>) -> serde_json::Value {
    message.remove("offset").expect("every message has an offset");
    message.into()
}

/// What JSON makes of a message: partition as given to the reader, and no kind for a tombstone.
fn as_read(messages: &[Owned], partition: u32) -> Vec<Owned> {
    let as_read = |message: &Owned| Owned { partition: Some(partition), ..message.clone() };
    messages.iter().map(as_read).collect()
}

/// Drops what a map of a JSON library cannot hold: repeated header names, and the order of headers.
fn with_plain_headers(mut messages: Vec<Owned>) -> Vec<Owned> {
    for message in &mut messages {
        message.headers.sort();
        message.headers.dedup_by(|a, b| a.0 == b.0);
    }
    messages
}

proptest! {
    #[test]
    fn published_json_is_read_as_it_was(messages in messages(), partition in any::<u32>(), offset in 0..u64::MAX / 2) {
        let messages = with_plain_headers(messages);
        let answer = encode_json(&[slice(&messages, partition, offset)], 13, 20);
        let answer: Answer = serde_json::from_slice(&answer).unwrap();
        prop_assert_eq!((answer.next_offset, answer.high_watermark), (13, 20));
        for (at, message) in answer.messages.iter().enumerate() {
            prop_assert_eq!(message["offset"].as_u64(), Some(offset + at as u64));
        }
        let body: Vec<_> = answer.messages.into_iter().map(to_publish).collect();
        let again = json(serde_json::json!({ "messages": body }).to_string().as_bytes()).unwrap();
        prop_assert_eq!(with_plain_headers(again), as_read(&messages, partition));
    }

    #[test]
    fn the_parser_reads_what_the_encoder_wrote(messages in messages()) {
        let lines = encode_ndjson(&[slice(&messages, 7, 5)]);
        let lines = std::str::from_utf8(&lines).unwrap();
        prop_assert_eq!(lines.lines().count(), messages.len());
        let mut body = String::new();
        for (at, line) in lines.split_terminator('\n').enumerate() {
            body.push_str(&line.replacen(&format!("\"offset\":{},", at + 5), "", 1));
            body.push_str("\r\n\n");
        }
        prop_assert_eq!(ndjson(body.as_bytes()).unwrap(), as_read(&messages, 7));
    }

    #[test]
    fn arrow_is_read_as_it_was(
        messages in messages(),
        first in 0..20_usize,
        compression in prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)],
    ) {
        let first = first.min(messages.len() - 1);
        let mut tail = slice(&messages, 7, 5);
        (tail.first, tail.rows) = (first, usize::MAX);
        let stream = encode_arrow(&[tail], compression).unwrap();
        let mut reader = arrow::ipc::reader::StreamReader::try_new(stream.as_ref(), None).unwrap();
        let (got, own) = (reader.schema(), read_schema());
        prop_assert_eq!(&got.fields()[..own.fields().len()], &own.fields()[..]);
        let batch = reader.next().unwrap().unwrap();
        prop_assert_eq!(batch.column(1).as_ref(), &arrow::array::UInt64Array::from_iter_values((5..).take(messages.len() - first)) as &dyn arrow::array::Array);
        let all_but_offset: Vec<_> = (0..batch.num_columns()).filter(|column| *column != 1).collect();
        let batch = batch.project(&all_but_offset).unwrap();
        let mut again = from_arrow(&stream_of(&batch, compression)).unwrap();
        let mut want = as_read(&messages[first..], 7);
        // A document of kind JSON and a tombstone of any kind keep their meaning, not their kind.
        for message in again.iter_mut().chain(&mut want).filter(|message| message.value.is_none()) {
            message.kind = ValueKind::Binary;
        }
        prop_assert_eq!(again, want);
    }
}

fn stream_of(batch: &arrow::array::RecordBatch, compression: Compression) -> Bytes {
    use arrow::ipc::{
        CompressionType,
        writer::{IpcWriteOptions, StreamWriter},
    };
    let options = IpcWriteOptions::default().try_with_compression(match compression {
        Compression::None => None,
        Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
        Compression::Zstd => Some(CompressionType::ZSTD),
    });
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options.unwrap()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap().into()
}
