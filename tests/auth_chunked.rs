//! aws-chunked bodies that must be refused, and that must not, however they arrive.

mod auth_support;

use auth_support::now;
use auth_support::{Draft, signed_chunks, signed_trailer, trusted, verify};
use bytes::Bytes;
use proptest::prelude::*;
use s3veil::body::chunked::{Chunked, Decoder, Signatures, Trailers};
use s3veil::s3::Result;
use s3veil::s3::checksum::Algorithm;

const TRAILER: &str = "x-amz-checksum-crc32:AAAAAA==";

/// A signed request for a body of this length, and the signature that chunks go on from.
fn request(sha: &str, length: usize) -> (Draft, Chunked, String) {
    let mut draft = Draft::new("PUT", "/bucket/key")
        .content_sha256(sha)
        .header("content-encoding", "aws-chunked")
        .header("x-amz-decoded-content-length", length.to_string());
    if sha.ends_with("-TRAILER") {
        draft = draft.header("x-amz-trailer", "x-amz-checksum-crc32");
    }
    let (parts, seed) = draft.clone().signed_with_seed();
    let chunked = verify(parts).unwrap().into_parts().payload.chunked.unwrap();
    (draft, chunked, seed)
}

/// A decoder, and the body that it takes.
fn signed(chunks: &[&[u8]]) -> (Decoder, Vec<u8>) {
    let length = chunks.iter().map(|chunk| chunk.len()).sum();
    let (draft, chunked, seed) = request("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", length);
    let (mut body, _) = signed_chunks(&draft, &seed, chunks);
    body.extend_from_slice(b"\r\n");
    (Decoder::new(chunked, length as u64), body)
}

fn signed_with_trailer(chunks: &[&[u8]]) -> (Decoder, Vec<u8>) {
    let length = chunks.iter().map(|chunk| chunk.len()).sum();
    let (draft, chunked, seed) = request("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", length);
    let (mut body, last) = signed_chunks(&draft, &seed, chunks);
    body.extend(signed_trailer(&draft, &last, TRAILER));
    (Decoder::new(chunked, length as u64), body)
}

fn unsigned(length: u64) -> Decoder {
    let chunked = Chunked { signatures: Signatures::Absent, trailers: true, trailer: Some(Algorithm::Crc32) };
    Decoder::new(chunked, length)
}

/// Feeds a body in pieces of these sizes, over and over.
fn decode(mut decoder: Decoder, body: &[u8], sizes: &[usize]) -> Result<(Vec<u8>, Trailers)> {
    let mut plain = Vec::new();
    let mut rest = Bytes::copy_from_slice(body);
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let mut frame = rest.split_to(rest.len().min(*size));
        while let Some(piece) = decoder.feed(&mut frame)? {
            plain.extend_from_slice(&piece);
        }
        assert!(frame.is_empty());
    }
    decoder.finish().map(|trailers| (plain, trailers))
}

fn fails((decoder, body): (Decoder, Vec<u8>)) -> &'static str {
    decode(decoder, &body, &[usize::MAX]).expect_err("must be refused").code().as_str()
}

fn unsigned_fails(length: u64, body: &str) -> &'static str {
    fails((unsigned(length), body.as_bytes().to_vec()))
}

#[test]
fn a_09_good_bodies() {
    let whole = [usize::MAX];
    let (decoder, body) = signed(&[b"hello ", b"world"]);
    assert_eq!(decode(decoder, &body, &whole).unwrap().0, b"hello world");
    let (decoder, body) = signed(&[]);
    assert_eq!(decode(decoder, &body, &whole).unwrap().0, b"");
    let (decoder, body) = signed_with_trailer(&[b"hello"]);
    let (plain, trailers) = decode(decoder, &body, &whole).unwrap();
    assert_eq!((plain, trailers.checksum.unwrap().to_base64()), (b"hello".to_vec(), "AAAAAA==".to_owned()));
    for body in [
        "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n",
        "0005\r\nhello\r\n00\r\nX-Amz-Checksum-Crc32: AAAAAA==\n\r\n",
    ] {
        let (plain, trailers) = decode(unsigned(5), body.as_bytes(), &whole).unwrap();
        assert!(plain == b"hello" && trailers.checksum.is_some(), "{body}");
    }
    let (decoder, body) =
        (unsigned(26), "1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n");
    assert_eq!(decode(decoder, body.as_bytes(), &whole).unwrap().0.len(), 26);
}

#[test]
fn a_09_pieces_are_slices_of_the_input() {
    let (mut decoder, body) = signed(&[b"hello"]);
    let mut input = Bytes::from(body);
    let range = input.as_ptr_range();
    let piece = decoder.feed(&mut input).unwrap().unwrap();
    assert!(range.contains(&piece.as_ptr()));
}

#[test]
fn what_travels_between_tasks_may() {
    fn may<T: Send + Sync>() {}
    may::<s3veil::auth::Authenticator>();
    may::<s3veil::auth::Verified>();
    may::<Decoder>();
}

#[test]
fn a_09_wrong_and_reordered_chunk_signatures() {
    let (decoder, mut body) = signed(&[b"hello", b"world"]);
    let at = body.windows(16).position(|w| w == b"chunk-signature=").unwrap() + 16;
    body[at] = if body[at] == b'0' { b'1' } else { b'0' };
    assert_eq!(fails((decoder, body)), "SignatureDoesNotMatch");

    // The second chunk first: both are as long, so only the chain tells.
    let (decoder, body) = signed(&[b"hello", b"world"]);
    let chunk = "5;chunk-signature=".len() + 64 + 2 + 5 + 2;
    let reordered = [&body[chunk..2 * chunk], &body[..chunk], &body[2 * chunk..]].concat();
    assert_eq!(fails((decoder, reordered)), "SignatureDoesNotMatch");

    // A chunk twice, of a body that was to be longer.
    let (draft, chunked, seed) = request("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", 10);
    let (body, _) = signed_chunks(&draft, &seed, &[b"hello"]);
    let twice = [&body[..chunk], &body, b"\r\n"].concat();
    assert_eq!(fails((Decoder::new(chunked, 10), twice)), "SignatureDoesNotMatch");

    // Another request's seed.
    let (draft, chunked, _) = request("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", 5);
    let (body, _) = signed_chunks(&draft, &"0".repeat(64), &[b"hello"]);
    assert_eq!(fails((Decoder::new(chunked, 5), body)), "SignatureDoesNotMatch");
}

#[test]
fn a_09_a_failure_is_final() {
    let (mut decoder, mut body) = signed(&[b"hello"]);
    let at = body.windows(5).position(|w| w == b"hello").unwrap();
    body[at] = b'j';
    let mut input = Bytes::from(body);
    assert!(decoder.feed(&mut input).is_err());
    assert!(decoder.feed(&mut input).is_err());
    assert!(!decoder.finished() && decoder.finish().is_err());
}

#[test]
fn a_09_a_cut_body_is_incomplete() {
    for make in [signed, signed_with_trailer] as [fn(&[&[u8]]) -> (Decoder, Vec<u8>); 2] {
        let whole = make(&[b"hello", b"world"]).1.len();
        for length in 0..whole {
            let (decoder, body) = make(&[b"hello", b"world"]);
            assert_eq!(fails((decoder, body[..length].to_vec())), "IncompleteBody", "{length}");
        }
    }
}

#[test]
fn a_09_lengths() {
    let end = "0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
    assert_eq!(unsigned_fails(6, &format!("5\r\nhello\r\n{end}")), "IncompleteBody");
    assert_eq!(unsigned_fails(4, &format!("5\r\nhello\r\n{end}")), "IncompleteBody");
    assert_eq!(unsigned_fails(10, &format!("5\r\nhello\r\n{end}5\r\nworld\r\n{end}")), "IncompleteBody");
    assert_eq!(unsigned_fails(5, &format!("5\r\nhello\r\n{end}5\r\nworld\r\n")), "InvalidRequest");
    assert_eq!(unsigned_fails(u64::MAX, "ffffffffffffffff\r\nhello"), "IncompleteBody");
    assert_eq!(unsigned_fails(5, "ffffffffffffffff\r\nhello"), "IncompleteBody");
}

#[test]
fn a_09_size_lines() {
    for line in [
        "\r\n",
        "g\r\n",
        "0x5\r\n",
        "+5\r\n",
        "-5\r\n",
        " 5\r\n",
        "5 \r\n",
        "5\n",
        "5;\r\n",
        "5;a=b\r\n",
        "00000000000000005\r\n",
        "5;chunk-signature=\r\n",
    ] {
        assert_eq!(unsigned_fails(5, &format!("{line}hello\r\n0\r\n\r\n")), "InvalidRequest", "{line:?}");
    }
    assert_eq!(unsigned_fails(5, &"0".repeat(1 << 20)), "InvalidRequest");
    assert_eq!(unsigned_fails(5, "5\r\nhello!\r\n"), "InvalidRequest");
    // Signed chunks need their extension, and only that.
    for extension in ["", ";chunk-signature=0", ";chunk-signature", ";other=1"] {
        let (decoder, body) = signed(&[b"hello"]);
        let rest = &body["5;chunk-signature=".len() + 64..];
        assert_eq!(
            fails((decoder, [b"5", extension.as_bytes(), rest].concat())),
            "InvalidRequest",
            "{extension}"
        );
    }
    let (decoder, body) = signed(&[b"hello"]);
    let body = String::from_utf8(body).unwrap().replacen("\r\n", ";a=b\r\n", 1).into_bytes();
    assert_eq!(fails((decoder, body)), "InvalidRequest");
}

#[test]
fn a_10_trailers() {
    let body = |trailers: &str| format!("5\r\nhello\r\n0\r\n{trailers}\r\n");
    for (trailers, expected) in [
        ("", "MalformedTrailerError"),
        ("x-amz-checksum-crc32c:AAAAAA==\r\n", "MalformedTrailerError"),
        ("x-amz-checksum-crc32:AAAAAA==\r\nx-amz-checksum-crc32:AAAAAA==\r\n", "MalformedTrailerError"),
        ("x-amz-checksum-crc32:AAAAAA==\r\nx-amz-meta-a:1\r\n", "MalformedTrailerError"),
        ("x-amz-checksum-crc32:AAAAAA==\r\nx-amz-trailer-signature:0\r\n", "MalformedTrailerError"),
        ("x-amz-checksum-crc32\r\n", "MalformedTrailerError"),
        ("x-amz-checksum-crc32:\r\n", "InvalidRequest"),
        ("x-amz-checksum-crc32:AAAA\r\n", "InvalidRequest"),
    ] {
        assert_eq!(unsigned_fails(5, &body(trailers)), expected, "{trailers:?}");
    }
    let undeclared = Chunked { signatures: Signatures::Absent, trailers: true, trailer: None };
    assert!(decode(Decoder::new(undeclared, 5), body("").as_bytes(), &[7]).unwrap().1.checksum.is_none());
}

#[test]
fn a_10_signed_trailers() {
    let (_, body) = signed_with_trailer(&[b"hello"]);
    let text = String::from_utf8(body).unwrap();
    let line = text.lines().find(|line| line.starts_with("x-amz-trailer-signature")).unwrap();
    for (changed, expected) in [
        (text.replace(TRAILER, "x-amz-checksum-crc32:AAAAAQ=="), "SignatureDoesNotMatch"),
        (text.replace(line, &line.replace("ture:", "ture:0")), "SignatureDoesNotMatch"),
        (text.replace(&format!("{line}\r\n"), ""), "IncompleteBody"),
        (text.replace(&format!("{line}\r\n"), "\r\n"), "MalformedTrailerError"),
        (text.replace(&format!("{TRAILER}\r\n"), ""), "MalformedTrailerError"),
        (text.replace(line, &format!("{line}\r\n{TRAILER}")), "InvalidRequest"),
        (format!("{text}\r\n"), "InvalidRequest"),
    ] {
        assert_eq!(
            fails((signed_with_trailer(&[b"hello"]).0, changed.clone().into_bytes())),
            expected,
            "{changed}"
        );
    }
}

#[test]
fn trusted_mode_reads_signed_framing() {
    let (draft, _, seed) = request("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", 5);
    let payload = trusted().verify(draft.clone().signed(), now()).unwrap().into_parts().payload;
    let (mut body, last) = signed_chunks(&draft, &seed.replace('a', "b"), &[b"hello"]);
    body.extend(signed_trailer(&draft, &last, TRAILER));
    let (plain, trailers) = decode(Decoder::new(payload.chunked.unwrap(), 5), &body, &[3]).unwrap();
    assert!(plain == b"hello" && trailers.checksum.is_some());
}

proptest! {
    #[test]
    fn any_split_gives_the_same(
        data in prop::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
        sizes in prop::collection::vec(1usize..40, 1..10),
    ) {
        let (first, second) = data.split_at(at.index(data.len() + 1));
        let chunks: Vec<&[u8]> = [first, second].into_iter().filter(|chunk| !chunk.is_empty()).collect();
        for make in [signed, signed_with_trailer] as [fn(&[&[u8]]) -> (Decoder, Vec<u8>); 2] {
            let (decoder, body) = make(&chunks);
            prop_assert_eq!(decode(decoder, &body, &sizes).unwrap().0, data.clone());
        }
    }

    #[test]
    fn any_flipped_byte_is_an_error(
        at in any::<prop::sample::Index>(),
        mask in 1u8..,
        sizes in prop::collection::vec(1usize..200, 1..4),
    ) {
        let (decoder, mut body) = signed_with_trailer(&[b"hello, this is a chunk", b"and another"]);
        let good = body.clone();
        let at = at.index(body.len());
        body[at] ^= mask;
        let result = decode(decoder, &body, &sizes).map(|(plain, _)| plain);
        // Only the case of a hex size and of a trailer's name says nothing.
        prop_assert!(result.is_err() || body.eq_ignore_ascii_case(&good), "byte {} is {:?}", at, body[at] as char);
        prop_assert!(result.map(|plain| plain == b"hello, this is a chunkand another").unwrap_or(true));
    }

    #[test]
    fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[0-9a-f;:\r\n]{0,60}") {
        let _ = decode(unsigned(5), &bytes, &[9]);
        let _ = decode(unsigned(5), text.as_bytes(), &[9]);
    }
}
