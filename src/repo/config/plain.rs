//! Configuration files in the form git itself writes, read without the general parser.
//!
//! In: a file's bytes. Out: its entries, or `None` if the general parser must read it: because of quotes, escapes,
//! comments after values, includes, or anything malformed. Nearly all files have the simple form. A short process pays
//! for each page of code it touches, and the general parser has many.

use bstr::BString;

/// Key and value of an entry, as in [`super::ConfigEntry`].
type Pair = (BString, Option<BString>);

/// The entries in order, or `None` if the file does not have the simple form.
pub(super) fn parse(text: &[u8]) -> Option<Vec<Pair>> {
    let mut entries = Vec::new();
    let mut prefix: Option<BString> = None;
    for line in text.split(|&byte| byte == b'\n') {
        if line.iter().any(|&byte| !(byte == b'\t' || (b' '..0x7f).contains(&byte))) {
            return None;
        }
        let line = line.trim_ascii();
        match line.first() {
            None | Some(b'#' | b';') => {}
            Some(b'[') => prefix = Some(section(line)?),
            Some(_) => {
                let (name, value) = variable(line)?;
                let mut key = prefix.clone()?;
                key.extend(name.iter().map(u8::to_ascii_lowercase));
                entries.push((key, value.map(BString::from)));
            }
        }
    }
    Some(entries)
}

/// Parses `[name]` or `[name "subsection"]` into the prefix of its variables' keys.
fn section(line: &[u8]) -> Option<BString> {
    let inside = line.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let (name, middle) = match inside.iter().position(|&byte| byte == b' ') {
        None => (inside, None),
        Some(space) => {
            let middle = inside[space + 1..].strip_prefix(b"\"")?.strip_suffix(b"\"")?;
            (&inside[..space], Some(middle).filter(|middle| !middle.iter().any(|byte| b"\"\\".contains(byte))))
        }
    };
    let includes = name.eq_ignore_ascii_case(b"include") || name.eq_ignore_ascii_case(b"includeif");
    if !is_word(name) || includes || (middle.is_none() && name.len() < inside.len()) {
        return None;
    }
    let mut prefix = BString::from(name.to_ascii_lowercase());
    prefix.push(b'.');
    if let Some(middle) = middle {
        prefix.extend_from_slice(middle);
        prefix.push(b'.');
    }
    Some(prefix)
}

/// Parses `name = value`, or a name alone.
fn variable(line: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let (name, value) = match line.iter().position(|&byte| byte == b'=') {
        None => (line, None),
        Some(equals) => (line[..equals].trim_ascii_end(), Some(line[equals + 1..].trim_ascii_start())),
    };
    let is_plain = |value: &[u8]| {
        let is_special = |byte: &u8| b"\"\\#;\t".contains(byte);
        !value.iter().any(is_special) && !value.windows(2).any(|pair| pair == b"  ")
    };
    (is_word(name) && name[0].is_ascii_alphabetic() && value.is_none_or(is_plain)).then_some((name, value))
}

fn is_word(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::super::tests::parsed_by_gix;
    use super::*;

    #[test]
    fn what_git_writes_is_read_as_the_general_parser_reads_it() {
        let check = |text: &str| {
            assert_eq!(parse(text.as_bytes()), Some(parsed_by_gix(text)), "{text:?}");
        };
        check("");
        check("# nothing\n\n; more of it");
        check("[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n");
        check(
            "[Core]\nBARE\n  logAllRefUpdates=Always  \n\n[remote \"Or.igin/x\"]\n\turl = https://host/a b?c=d\n\tempty =\n",
        );
        check("[remote \"\"]\n\turl = x\n[remote \"a b\"]\n\tfetch = +refs/heads/*:refs/remotes/origin/*");
        check("[a]\n[a]\n\tx-1 = \n\tx-1 = 2");
    }

    #[test]
    fn what_is_not_of_this_form_is_left_to_the_general_parser() {
        let check = |text: &str| assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        check("[core]\n\ta = \"b\"");
        check("[core]\n\ta = b # c");
        check("[core]\n\ta = b ; c");
        check("[core]\n\ta = b\\\nc");
        check("[core]\n\ta = b\tc");
        check("[core]\n\ta = b  c");
        check("[core]\r\n\ta = b\r\n");
        check("[core]\n\ta = \u{e9}");
        check("\u{feff}[core]\n\ta = b");
        check("[core] a = b");
        check("[core.sub]\n\ta = b");
        check("[core \"a\\\"b\"]\n\ta = b");
        check("[core  \"a\"]\n\ta = b");
        check("[core sub]\n\ta = b");
        check("[Include]\n\tpath = more");
        check("[includeIf \"gitdir:x\"]\n\tpath = more");
        check("a = b");
        check("[core]\n\t1a = b");
        check("[core]\n\ta_b = c");
        check("[core]\n\ta b");
        check("[core\n\ta = b");
        check("[]\n\ta = b");
    }
}
