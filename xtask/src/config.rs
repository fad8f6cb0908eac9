// SPDX-License-Identifier: GPL-2.0

//! Kernel configurations: fragments, and whether Kconfig did what they say.

use anyhow::{bail, Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The options of one or more fragments.
pub(crate) struct Fragment {
    text: String,
}

impl Fragment {
    /// Reads the fragments; a later one adds to the earlier ones.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut text = String::new();
        for path in paths {
            text += &fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            text.push('\n');
        }
        Ok(Self { text })
    }

    /// The text, as `KCONFIG_ALLCONFIG` takes it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Fails with the names of all options that did not end up in the resulting configuration as asked.
    pub(crate) fn check(&self, config: &Path) -> Result<()> {
        let made = fs::read_to_string(config)
            .with_context(|| format!("cannot read {}", config.display()))?;
        let lost = self.lost(&made);
        if !lost.is_empty() {
            bail!(
                "Kconfig dropped {} of the options asked for: {}. Each has an unmet dependency, was renamed, or is \
                 selected by another one; fix kernel/*.config. The result is in {}.",
                lost.len(),
                lost.join(", "),
                config.display()
            );
        }
        Ok(())
    }

    fn lost<'a>(&'a self, made: &str) -> Vec<&'a str> {
        let lines: std::collections::HashSet<_> = made.lines().collect();
        self.text
            .lines()
            .filter(|line| line.starts_with("CONFIG_"))
            .filter(|line| match line.strip_suffix("=n") {
                Some(name) => {
                    let start = format!("{name}=");
                    made.lines().any(|line| line.starts_with(&start))
                }
                None => !lines.contains(line),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Fragment;

    #[test]
    fn lost_options_are_named() {
        let fragment = Fragment {
            text: "# why\nCONFIG_A=y\nCONFIG_B=n\nCONFIG_C=\"x\"\nCONFIG_D=n\nCONFIG_E=y".into(),
        };
        let made = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x\"\nCONFIG_D=y\nCONFIG_E=m\n";
        assert_eq!(fragment.lost(made), ["CONFIG_D=n", "CONFIG_E=y"]);
    }
}
