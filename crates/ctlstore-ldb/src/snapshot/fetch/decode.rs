//! Decompresses a stream. Entry point: [`decode`], which tells the compression by the first
//! bytes of the stream. The key's ending would not do: the original writes plain files under
//! names that end in .gz.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Bytes that are read from the stream at once.
const BUFFER: usize = 128 * 1024;

/// The largest window that a zstd stream may ask for, as a power of two: 128 MiB, which is
/// zstd's own default.
const MAX_ZSTD_WINDOW: u32 = 27;

/// Whether the file begins as a compressed stream does.
pub(in crate::snapshot) fn is_compressed(path: &Path) -> bool {
    let mut start = Vec::with_capacity(ZSTD_MAGIC.len());
    let read = File::open(path).and_then(|file| file.take(ZSTD_MAGIC.len() as u64).read_to_end(&mut start));
    read.is_ok() && (start.starts_with(&GZIP_MAGIC) || start == ZSTD_MAGIC)
}

/// Reads the file that the stream holds.
pub fn decode<'r>(mut stream: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let mut start = Vec::with_capacity(ZSTD_MAGIC.len());
    stream.by_ref().take(ZSTD_MAGIC.len() as u64).read_to_end(&mut start)?;
    let is_gzip = start.starts_with(&GZIP_MAGIC);
    let is_zstd = start == ZSTD_MAGIC;
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(start).chain(stream));
    Ok(if is_gzip {
        Box::new(MultiGzDecoder::new(whole))
    } else if is_zstd {
        Box::new(zstd_decoder(whole)?)
    } else {
        Box::new(whole)
    })
}

fn zstd_decoder<'r, R: BufRead + 'r>(input: R) -> io::Result<zstd::Decoder<'static, R>> {
    let mut decoder = zstd::Decoder::with_buffer(input)?;
    decoder.window_log_max(MAX_ZSTD_WINDOW)?;
    Ok(decoder)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn decoded(stream: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decode(stream)?.read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn every_kind_of_stream_is_the_file_that_it_holds() {
        let file = b"SQLite format 3\0 and so on".repeat(10_000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&file).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(&file[..], 1).unwrap();
        for stream in [&file, &gzip, &zstd] {
            assert!(decoded(stream).unwrap() == file);
        }
        assert!(decoded(&gzip[..gzip.len() - 9]).is_err());
        assert!(decoded(&zstd[..zstd.len() - 9]).is_err());
        assert_eq!(decoded(b"abc").unwrap(), b"abc");
        assert_eq!(decoded(b"").unwrap(), b"");
    }
}
