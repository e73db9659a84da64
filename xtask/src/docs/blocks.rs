//! The generated parts of a Markdown file: between `<!-- generated: NAME -->` and `<!-- end of generated -->`.

use anyhow::{Context, Result, bail};

const START: &str = "<!-- generated: ";
const END: &str = "<!-- end of generated -->";

/// The text with every generated part replaced by what `generate` says for its name.
///
/// # Errors
///
/// When a part has no end, or `generate` fails.
pub(super) fn fill(text: &str, mut generate: impl FnMut(&str) -> Result<String>) -> Result<String> {
    let mut new = String::new();
    let mut lines = text.split_inclusive('\n');
    while let Some(line) = lines.next() {
        new.push_str(line);
        let Some(name) = line.trim_end().strip_prefix(START).and_then(|rest| rest.strip_suffix(" -->")) else {
            if line.trim_end() == END {
                bail!("`{END}` without a start");
            }
            continue;
        };
        let end =
            lines.find(|line| line.trim_end() == END).with_context(|| format!("the part {name} has no `{END}`"))?;
        // The empty lines let Markdown see a table beside the comment.
        new.push_str(&format!("\n{}\n\n", generate(name)?.trim_end()));
        new.push_str(end);
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shout(name: &str) -> Result<String> {
        Ok(format!("{}!\n", name.to_uppercase()))
    }

    #[test]
    fn parts_are_replaced_and_the_rest_is_kept() {
        let text = "a\n<!-- generated: x -->\nold\n<!-- end of generated -->\nb";
        let new = fill(text, shout).unwrap();
        assert_eq!(new, "a\n<!-- generated: x -->\n\nX!\n\n<!-- end of generated -->\nb");
        assert_eq!(fill(&new, shout).unwrap(), new, "filling twice changes nothing");
        assert_eq!(fill("no part\r\n", shout).unwrap(), "no part\r\n");
    }

    #[test]
    fn a_part_without_an_end_or_a_start_is_an_error() {
        assert!(fill("<!-- generated: x -->\nold\n", shout).is_err());
        assert!(fill("old\n<!-- end of generated -->\n", shout).is_err());
    }

    #[test]
    fn an_unknown_part_is_an_error() {
        assert!(fill("<!-- generated: x -->\n<!-- end of generated -->\n", |name| bail!("no {name}")).is_err());
    }
}
