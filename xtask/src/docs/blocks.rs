//! The generated parts of a Markdown file: between `<!-- generated: NAME -->` and `<!-- end of generated: NAME -->`.

use anyhow::{Context, Result, bail};

const START: &str = "<!-- generated: ";
const END: &str = "<!-- end of generated: ";

/// The text with every generated part replaced by what `generate` says for its name.
///
/// # Errors
///
/// When a part has no start or no end, or `generate` fails.
pub(super) fn fill(text: &str, mut generate: impl FnMut(&str) -> Result<String>) -> Result<String> {
    let mut new = String::new();
    let mut lines = text.split_inclusive('\n');
    while let Some(line) = lines.next() {
        new.push_str(line);
        if let Some(name) = marker(line, END) {
            bail!("the part {name} has an end and no start");
        }
        let Some(name) = marker(line, START) else { continue };
        // Up to the next marker of any kind: a part whose end is missing must not swallow what follows it.
        let next = lines.find(|line| marker(line, START).or(marker(line, END)).is_some());
        let end = next.filter(|line| marker(line, END) == Some(name));
        let end = end.with_context(|| format!("the part {name} has no `{END}{name} -->`"))?;
        // The empty lines let Markdown see a table beside the comment.
        new.push_str(&format!("\n{}\n\n", generate(name)?.trim_end()));
        new.push_str(end);
    }
    Ok(new)
}

/// The name in a marker, if the line is one.
fn marker<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.trim_end().strip_prefix(start)?.strip_suffix(" -->")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shout(name: &str) -> Result<String> {
        Ok(format!("{}!\n", name.to_uppercase()))
    }

    #[test]
    fn parts_are_replaced_and_the_rest_is_kept() {
        let text = "a\n<!-- generated: x -->\nold\n<!-- end of generated: x -->\nb";
        let new = fill(text, shout).unwrap();
        assert_eq!(new, "a\n<!-- generated: x -->\n\nX!\n\n<!-- end of generated: x -->\nb");
        assert_eq!(fill(&new, shout).unwrap(), new, "filling twice changes nothing");
        assert_eq!(fill("no part\r\n", shout).unwrap(), "no part\r\n");
    }

    #[test]
    fn a_part_without_an_end_or_a_start_is_an_error() {
        assert!(fill("<!-- generated: x -->\nold\n", shout).is_err());
        assert!(fill("old\n<!-- end of generated: x -->\n", shout).is_err());
        assert!(fill("<!-- generated: x -->\n<!-- end of generated: y -->\n", shout).is_err());
        let open = "<!-- generated: x -->\nkept\n<!-- generated: x -->\n<!-- end of generated: x -->\n";
        assert!(fill(open, shout).is_err());
    }

    #[test]
    fn an_unknown_part_is_an_error() {
        let text = "<!-- generated: x -->\n<!-- end of generated: x -->\n";
        assert!(fill(text, |name| bail!("no {name}")).is_err());
    }
}
