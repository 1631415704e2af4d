//! The state of a Dockerfile as its instructions are applied: configuration, arguments, shell.

use longshore_image::Config;

use super::DockerfileProblem;
use super::instruction::{Command, Step};
use super::words::{self, Variables};

/// Arguments that need no `ARG`: programs that use a network want them.
pub(super) const PREDEFINED: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// The state of one Dockerfile.
pub(super) struct Stage {
    pub(super) config: Config,
    pub(super) shell: Vec<String>,
    pub(super) escape: char,
    /// Whether it says that the image can be rebased.
    pub(super) rebasable: Option<bool>,
    /// The arguments that are given.
    given: Variables,
    /// The arguments that it has declared.
    declared: Variables,
}

impl Stage {
    /// The beginning of a Dockerfile on an image.
    pub(super) fn new(config: Config, given: Variables, escape: char) -> Self {
        let shell = ["/bin/sh", "-c"].map(str::to_owned).to_vec();
        let declared = Variables::new();
        Self { config, shell, escape, rebasable: None, given, declared }
    }

    /// `FROM`: arguments before it are for it alone.
    pub(super) fn begin(&mut self) {
        self.declared.clear();
    }

    /// What can be used in instructions: arguments, and over them the variables of the image.
    pub(super) fn variables(&self) -> Variables {
        let mut variables = self.declared.clone();
        variables.extend(self.config.env());
        variables
    }

    /// The arguments that a command sees, those that nobody had to declare among them.
    pub(super) fn arguments(&self) -> Variables {
        let predefined = self.given.iter().filter(|(name, _)| PREDEFINED.contains(&name.as_str()));
        let mut arguments: Variables =
            predefined.map(|(name, value)| (name.clone(), value.clone())).collect();
        arguments.extend(self.declared.clone());
        arguments
    }

    pub(super) fn expand(&self, text: &str) -> Result<String, DockerfileProblem> {
        words::expand(text, &self.variables(), self.escape)
    }

    /// The working directory of the image, absolute.
    pub(super) fn working_dir(&self) -> &str {
        match self.config.working_dir() {
            "" => "/",
            directory => directory,
        }
    }

    /// A path relative to the working directory.
    pub(super) fn path(&self, text: &str) -> String {
        match text.strip_prefix('/') {
            Some(_) => text.to_owned(),
            None => format!("{}/{text}", self.working_dir().trim_end_matches('/')),
        }
    }

    /// Does what an instruction does to the image's configuration. `RUN`, `COPY` and `ADD` do nothing to it.
    pub(super) fn configure(&mut self, step: &Step) -> Result<(), DockerfileProblem> {
        match step {
            Step::Arg(arguments) => arguments.iter().try_for_each(|(name, default)| {
                let default = default.as_ref().map(|text| self.expand(text)).transpose()?;
                if let Some(value) = self.given.get(name).cloned().or(default) {
                    self.declared.insert(name.clone(), value);
                }
                Ok::<_, DockerfileProblem>(())
            })?,
            Step::Env(pairs) => {
                // All values are of the variables before the instruction.
                for (name, value) in self.expanded(pairs)? {
                    self.config.set_env(&name, &value);
                }
            }
            Step::Label(pairs) => {
                for (name, value) in self.expanded(pairs)? {
                    if name == super::REBASABLE_LABEL {
                        self.rebasable = Some(is_true(&value));
                    }
                    self.config.set_label(&name, &value);
                }
            }
            Step::User(user) => {
                let user = self.expand(user)?;
                self.config.set_user(&user);
            }
            Step::WorkDir(directory) => {
                let directory = self.path(&self.expand(directory)?);
                self.config.set_working_dir(&plain(&directory));
            }
            Step::Shell(shell) => self.shell.clone_from(shell),
            Step::Cmd(command) => self.config.set_cmd(&self.list(command)),
            Step::Entrypoint(command) => self.config.set_entrypoint(&self.list(command)),
            Step::Expose(ports) => {
                let ports = ports.iter().map(|port| self.expand(port));
                let protocol = |port: String| if port.contains('/') { port } else { format!("{port}/tcp") };
                let ports = ports.collect::<Result<Vec<_>, _>>()?;
                self.config.add_exposed_ports(ports.into_iter().map(protocol));
            }
            Step::Volume(paths) => {
                let paths = paths.iter().map(|path| self.expand(path)).collect::<Result<Vec<_>, _>>()?;
                self.config.add_volumes(paths);
            }
            Step::StopSignal(signal) => {
                let signal = self.expand(signal)?;
                self.config.set_stop_signal(&signal);
            }
            Step::Maintainer(name) => self.config.set_author(name),
            Step::Run(_) | Step::Copy(_) => {}
        }
        Ok(())
    }

    fn expanded(&self, pairs: &[(String, String)]) -> Result<Vec<(String, String)>, DockerfileProblem> {
        pairs.iter().map(|(name, value)| Ok((self.expand(name)?, self.expand(value)?))).collect()
    }

    fn list(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(list) => list.clone(),
            Command::Shell(line) => self.shell.iter().chain([line]).cloned().collect(),
        }
    }
}

/// The words that Go takes for true.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// A path without `.`, `..`, and more slashes than it needs.
fn plain(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use longshore_image::Platform;

    use super::super::instruction;
    use super::*;
    use crate::dockerfile::instructions;

    fn stage(text: &str, given: &[(&str, &str)]) -> Result<Stage, DockerfileProblem> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut config = Config::new(&Platform::linux("amd64"));
        config.set_env("PATH", "/bin");
        let mut stage = Stage::new(config, given, '\\');
        for found in instructions(text) {
            match instruction::read(&found, '\\')? {
                Some(step) => stage.configure(&step)?,
                None => stage.begin(),
            }
        }
        Ok(stage)
    }

    #[test]
    fn instructions_change_the_configuration() {
        let text = "ARG base_image\nFROM ${base_image}\nARG a=1 b\nENV X=$a PATH=\"/x:$PATH\" Y=$X\nENV Z=a=b\n\
                    LABEL l=\"$b c\" io.buildpacks.rebasable=true\nUSER ${user_id}:7\nWORKDIR /a\nWORKDIR b/../c\n\
                    EXPOSE 80 53/udp\nVOLUME [\"/data\"]\nSTOPSIGNAL SIGINT\nCMD run it\nENTRYPOINT [\"/e\"]\n\
                    MAINTAINER me";
        let stage = stage(text, &[("b", "given"), ("user_id", "5"), ("c", "unused")]).unwrap();
        let config = &stage.config;
        let env = |name: &str| config.env_value(name).unwrap_or_default();
        assert_eq!((env("X"), env("PATH"), env("Y")), ("1".into(), "/x:/bin".into(), String::new()));
        assert_eq!(env("Z"), "a=b", "a second = is part of the value");
        assert_eq!(config.label("l"), Some("given c"));
        assert_eq!(stage.rebasable, Some(true));
        assert_eq!(config.user(), ":7", "an argument must be declared");
        assert_eq!(config.working_dir(), "/a/c");
        assert_eq!(config.exposed_ports(), ["53/udp", "80/tcp"]);
        assert_eq!(config.cmd(), ["/bin/sh", "-c", "run it"]);
        assert_eq!(config.entrypoint(), ["/e"]);
        assert_eq!(config.author(), Some("me"));
        let bytes = config.to_bytes();
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(text.contains("\"Volumes\":{\"/data\":{}}") && text.contains("\"StopSignal\":\"SIGINT\""));
    }

    #[test]
    fn arguments_are_those_of_the_stage() {
        let stage = stage("ARG a=1\nFROM x\nARG b=2\nENV b=env", &[("http_proxy", "p")]).unwrap();
        let names: Vec<_> = stage.arguments().into_keys().collect();
        assert_eq!(names, ["b", "http_proxy"]);
        assert_eq!(stage.expand("$a$b").unwrap(), "env", "variables of the image are stronger");
    }
}
