//! A browser's form on its way in: its fields read whole, within S3's limit, the file behind them piece by piece.
//!
//! Source: Amazon S3 API Reference, "POST Object": the file comes last, and fields behind it are ignored.

use std::fmt;

use bytes::Bytes;

use super::multipart::{Parts, malformed};
use super::{ByteBody, Checked, from_source};
use crate::s3::{Code, Error, Result};

/// The most bytes of a form before its file (S3).
pub const MAX_FIELDS: usize = 20 * 1024;

/// A form, read up to its file.
#[derive(Debug)]
pub struct Form {
    /// What was said before the file.
    pub fields: Fields,
    /// The file.
    pub file: FormFile,
}

/// The fields of a form, by names in lower case. Their values may be secret.
#[derive(Default)]
pub struct Fields(Vec<(String, String)>);

/// The file of a form.
pub struct FormFile {
    parts: Parts,
    ended: bool,
}

/// Reads a form up to its file.
///
/// Errors: MalformedPOSTRequest, MaxPostPreDataLengthExceeded, IncorrectNumberOfFilesInPostRequest, and what the checks of
/// `source` say.
pub async fn read(source: Checked, content_type: &str) -> Result<Form> {
    let mut parts = Parts::new(source, content_type)?;
    let mut room = MAX_FIELDS;
    let mut fields = Fields::default();
    value(&mut parts, &mut room).await?;
    while let Some(head) = parts.head().await? {
        spend(&mut room, head.len)?;
        let name = head.name.to_ascii_lowercase();
        if name == "file" {
            fields.fill_in(head.filename.as_deref().unwrap_or_default(), &mut room)?;
            return Ok(Form { fields, file: FormFile { parts, ended: false } });
        }
        let value = value(&mut parts, &mut room).await?;
        let value = String::from_utf8(value).map_err(|_| malformed("the value of a field is not UTF-8"))?;
        fields.add(name, value)?;
    }
    Err(one_file())
}

/// All data up to the next delimiter.
async fn value(parts: &mut Parts, room: &mut usize) -> Result<Vec<u8>> {
    let mut value = Vec::new();
    while let Some(piece) = parts.data().await? {
        spend(room, piece.len())?;
        value.extend_from_slice(&piece);
    }
    Ok(value)
}

fn spend(room: &mut usize, len: usize) -> Result<()> {
    *room = room.checked_sub(len).ok_or_else(|| {
        Error::new(
            Code::MaxPostPreDataLengthExceeded,
            "Your POST request fields preceding the upload file were too large: they may have 20 KB.",
        )
    })?;
    Ok(())
}

fn one_file() -> Error {
    Error::new(
        Code::IncorrectNumberOfFilesInPostRequest,
        "POST requires exactly one file upload per request: a field named 'file'.",
    )
}

impl Fields {
    /// The value of a field, by its name in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Names and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Errors: InvalidArgument for a second field of a name, of which another reader could take the other one.
    fn add(&mut self, name: String, value: String) -> Result<()> {
        if self.get(&name).is_some() && !is_ignored(&name) {
            return Err(Error::new(
                Code::InvalidArgument,
                format!("The form has the field '{name}' more than once. Send it once."),
            ));
        }
        self.0.push((name, value));
        Ok(())
    }

    /// Puts the file's name where S3 has a variable for it. Of a path, what browsers once sent, its last step counts.
    fn fill_in(&mut self, filename: &str, room: &mut usize) -> Result<()> {
        const VARIABLE: &str = "${filename}";
        let filename = filename.rsplit(['/', '\\']).next().unwrap_or_default();
        for (_, value) in &mut self.0 {
            let times = value.matches(VARIABLE).count();
            if times > 0 {
                // Written often, the name must not make much of little.
                spend(room, times * filename.len())?;
                *value = value.replace(VARIABLE, filename);
            }
        }
        Ok(())
    }
}

/// Fields that S3 is told to ignore.
pub fn is_ignored(name: &str) -> bool {
    name.starts_with("x-ignore-")
}

impl<const N: usize> From<[(&str, &str); N]> for Fields {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect())
    }
}

impl FormFile {
    /// As a body. Its errors are those of the form.
    pub fn into_body(self) -> ByteBody {
        from_source(
            self,
            |mut file| async move { Ok::<_, Error>(file.next().await?.map(|piece| (piece, file))) },
        )
    }

    /// The next piece of the file; `None` once the whole form has been read and every check of it has passed.
    ///
    /// Errors: MalformedPOSTRequest for a form that ends too early, IncorrectNumberOfFilesInPostRequest for a second file.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        if let Some(piece) = self.parts.data().await? {
            return Ok(Some(piece));
        }
        while let Some(head) = self.parts.head().await? {
            if head.name.eq_ignore_ascii_case("file") {
                return Err(one_file());
            }
            while self.parts.data().await?.is_some() {}
        }
        self.parts.end().await?;
        self.ended = true;
        Ok(None)
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl fmt::Debug for FormFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FormFile").field("ended", &self.ended).finish_non_exhaustive()
    }
}
