//! Applying one Dockerfile after the other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use longshore_image::Sha256;
use longshore_image::{Config, Digest};

use super::files::{Context, Source as CopySource, Target};
use super::filesystem::Filesystem;
use super::instruction::{self, Command, Copy, Run, Step};
use super::layer_cache::{CachedLayer, Key};
use super::sources::Source;
use super::stage::{PREDEFINED, Stage};
use super::words::{self, Variables};
use super::{DockerfileProblem, ExtendError, ExtendInput, User, run};
use crate::dockerfile::{self, Instruction};
use crate::module_process::describe;

const BUILD_ID: &str = "build_id";

/// What Dockerfiles have made of an image so far.
pub(super) struct Applier<'a> {
    input: &'a ExtendInput<'a>,
    filesystem: Filesystem,
    pub(super) config: Config,
    /// Stands for everything that was done to the root filesystem.
    key: Key,
    /// The new layers, and the `created_by` of their history entries.
    pub(super) layers: Vec<(CachedLayer, String)>,
}

impl<'a> Applier<'a> {
    pub(super) fn new(input: &'a ExtendInput<'a>, filesystem: Filesystem, config: Config, key: Key) -> Self {
        Self { input, filesystem, config, key, layers: Vec::new() }
    }

    /// Applies a Dockerfile to the image of that digest; what it says of rebasing.
    pub(super) fn apply(&mut self, source: &Source, base: Digest) -> Result<Option<bool>, ExtendError> {
        tracing::debug!("Applying {} of extension '{}'", source.path.display(), source.extension);
        let escape = dockerfile::escape_character(&source.text);
        let given = self.arguments(source, base)?;
        let mut stage = Stage::new(self.config.clone(), given, escape);
        let mut is_begun = false;
        for found in dockerfile::instructions(&source.text) {
            let done = self.instruction(source, &mut stage, &mut is_begun, &found);
            done.map_err(|problem| ExtendError::Instruction {
                extension: source.extension.clone(),
                path: source.path.clone(),
                line: found.line,
                source: Box::new(problem),
            })?;
        }
        self.config = stage.config;
        Ok(stage.rebasable)
    }

    /// Spec: image_extension.md "Phase: Extension": `base_image`, `build_id`, `user_id` and `group_id`, beside those of
    /// `extend-config.toml`.
    fn arguments(&self, source: &Source, base: Digest) -> Result<Variables, ExtendError> {
        let user = self.config.user();
        let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
        let platform = self.config.platform();
        let variant = platform.variant.clone().unwrap_or_default();
        let full = [platform.os.as_str(), &platform.architecture, &variant];
        let full: Vec<_> = full.into_iter().filter(|part| !part.is_empty()).collect();
        let mut arguments = Variables::new();
        for (name, value) in [
            ("TARGETPLATFORM", full.join("/")),
            ("TARGETOS", platform.os.clone()),
            ("TARGETARCH", platform.architecture.clone()),
            ("TARGETVARIANT", variant),
            (BUILD_ID, build_id()?),
            ("user_id", uid.to_owned()),
            ("group_id", gid.to_owned()),
        ] {
            arguments.insert(name.to_owned(), value);
        }
        let of_process =
            self.input.environment.iter().filter(|(name, _)| PREDEFINED.contains(&name.as_str()));
        arguments.extend(of_process.cloned());
        arguments.extend(source.arguments.iter().cloned());
        arguments.insert("base_image".to_owned(), format!("base@{base}"));
        Ok(arguments)
    }

    fn instruction(
        &mut self,
        source: &Source,
        stage: &mut Stage,
        is_begun: &mut bool,
        found: &Instruction,
    ) -> Result<(), DockerfileProblem> {
        let Some(step) = instruction::read(found, stage.escape)? else {
            if std::mem::replace(is_begun, true) {
                return Err(DockerfileProblem::Unsupported("a second FROM"));
            }
            stage.begin();
            return Ok(());
        };
        tracing::info!("{} {}", found.name, found.rest);
        let layer = match &step {
            Step::Run(run) => self.run(stage, run)?,
            Step::Copy(copy) => self.copy(stage, copy, &source.context)?,
            step => {
                stage.configure(step)?;
                match step {
                    Step::WorkDir(_) => self.working_directory(stage)?,
                    _ => None,
                }
            }
        };
        if let Some(layer) = layer {
            let created_by =
                format!("Layer: '{} {}', Created by extension: {}", found.name, found.rest, source.extension);
            self.layers.push((layer, created_by));
        }
        Ok(())
    }

    fn run(&mut self, stage: &Stage, run: &Run) -> Result<Option<CachedLayer>, DockerfileProblem> {
        let (command, script) = command_line(stage, run);
        // Who is called user is known only when what was done before is there.
        let key = self.run_key(stage, &command, script.as_deref());
        self.key = key;
        let execution = self.input.run;
        let directory = stage.working_dir().to_owned();
        let (user, image, arguments) =
            (stage.config.user().to_owned(), stage.config.env(), stage.arguments());
        self.filesystem.change(key, |root| {
            let user = User::find(&user, root)?;
            let environment = run::environment(image, arguments, &user);
            let directory = root.join(directory.trim_start_matches('/'));
            fs::create_dir_all(&directory).map_err(at(&directory))?;
            let file = script.map(|script| ScriptFile::write(root, &script)).transpose()?;
            let command: Vec<String> =
                command.into_iter().chain(file.as_ref().map(ScriptFile::name)).collect();
            let status = execution(&command, &directory, &environment, &user);
            drop(file);
            let program = command.first().cloned().unwrap_or_default();
            let status = status.map_err(|source| DockerfileProblem::Start { program, source })?;
            if status.success() { Ok(()) } else { Err(DockerfileProblem::Failed(describe(status))) }
        })
    }

    /// Everything that decides what a command does. An identifier of the build only does where it is mentioned: else no
    /// layer could ever be reused.
    fn run_key(&self, stage: &Stage, command: &[String], script: Option<&str>) -> Key {
        let mentions = |name: &str| {
            command.iter().any(|part| part.contains(name)) || script.is_some_and(|text| text.contains(name))
        };
        let mut parts: Vec<String> = vec!["RUN".to_owned()];
        parts.extend(command.iter().cloned());
        parts.extend(script.map(str::to_owned));
        parts.push(stage.config.user().to_owned());
        parts.push(stage.working_dir().to_owned());
        parts.extend(stage.config.env().into_iter().map(|(name, value)| format!("{name}={value}")));
        let arguments =
            stage.arguments().into_iter().filter(|(name, _)| !PREDEFINED.contains(&name.as_str()));
        let arguments = arguments.filter(|(name, _)| name != BUILD_ID || mentions(BUILD_ID));
        parts.extend(arguments.map(|(name, value)| format!("{name}={value}")));
        self.key.then(parts.iter().map(String::as_bytes))
    }

    fn copy(
        &mut self,
        stage: &Stage,
        copy: &Copy,
        context: &Path,
    ) -> Result<Option<CachedLayer>, DockerfileProblem> {
        let context = Context::open(context)?;
        let mut sources = Vec::new();
        for source in &copy.sources {
            sources.extend(context.find(&stage.expand(source)?)?);
        }
        for document in &copy.here_documents {
            let text = match document.expands {
                true => words::expand_text(&document.text, &stage.variables(), stage.escape)?,
                false => document.text.clone(),
            };
            sources.push(CopySource::text(&document.word, text));
        }
        let target = stage.expand(&copy.target)?;
        let is_directory = target.ends_with('/') || target == "." || target.ends_with("/.");
        let path = stage.path(&target);
        let owner = copy.owner.as_ref().map(|owner| stage.expand(owner)).transpose()?;
        let mode = copy.mode.as_ref().map(|mode| stage.expand(mode)).transpose()?;
        let mode = mode.map(|text| u32::from_str_radix(&text, 8).ok().ok_or(DockerfileProblem::Mode(text)));
        let mode = mode.transpose()?;
        let mut hasher = Sha256::new();
        context.digest(&sources, &mut hasher)?;
        let content = Digest::from_hasher(hasher).to_string();
        let parts = ["COPY", &content, &path, &format!("{owner:?} {mode:?} {}", copy.unpacks)];
        self.key = self.key.then(parts.map(str::as_bytes));
        let unpacks = copy.unpacks;
        self.filesystem.change(self.key, |root| {
            let (uid, gid) = owner_of(owner.as_deref(), root)?;
            let host = root.join(path.trim_start_matches('/'));
            context.copy(&sources, &Target { host, is_directory, uid, gid, mode, unpacks })
        })
    }

    /// A working directory that does not exist is made.
    fn working_directory(&mut self, stage: &Stage) -> Result<Option<CachedLayer>, DockerfileProblem> {
        let directory = stage.working_dir().trim_start_matches('/').to_owned();
        self.key = self.key.then(["WORKDIR".as_bytes(), directory.as_bytes()]);
        // Nothing is done, and nothing has to be known, when it is there. What waits in the cache may have made it.
        if self.filesystem.root().join(&directory).is_dir() {
            return Ok(None);
        }
        self.filesystem.change(self.key, |root| {
            let path = root.join(&directory);
            fs::create_dir_all(&path).map_err(at(&path))
        })
    }

    /// Brings the root filesystem to the end of the last Dockerfile.
    pub(super) fn finish(&mut self) -> Result<(), ExtendError> {
        self.filesystem.catch_up().map_err(|problem| ExtendError::Instruction {
            extension: "of the group".to_owned(),
            path: self.input.generated.clone(),
            line: 0,
            source: Box::new(problem),
        })
    }

    pub(super) fn collect(&self) {
        self.filesystem.collect();
    }
}

/// The program and its arguments; a script that is put into a file, whose name is the last argument then.
fn command_line(stage: &Stage, run: &Run) -> (Vec<String>, Option<String>) {
    let line = match &run.command {
        Command::Exec(list) => return (list.clone(), None),
        Command::Shell(line) => line,
    };
    let in_shell = |text: String| (stage.shell.iter().cloned().chain([text]).collect(), None);
    match run.here_documents.as_slice() {
        [only] if only.marker == *line => match only.text.strip_prefix("#!") {
            Some(rest) => {
                let interpreter = rest.lines().next().unwrap_or_default();
                (interpreter.split_whitespace().map(str::to_owned).collect(), Some(only.text.clone()))
            }
            None => in_shell(only.text.clone()),
        },
        documents => {
            let ends = documents.iter().map(|document| format!("\n{}{}", document.text, document.word));
            in_shell(format!("{line}{}", ends.collect::<String>()))
        }
    }
}

/// A script that is there while it runs.
struct ScriptFile {
    path: PathBuf,
    name: String,
}

impl ScriptFile {
    fn write(root: &Path, text: &str) -> Result<Self, DockerfileProblem> {
        let name = format!("/.longshore-run-{}", std::process::id());
        let path = root.join(name.trim_start_matches('/'));
        fs::write(&path, text).map_err(at(&path))?;
        Ok(Self { path, name })
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Drop for ScriptFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("'{}' cannot be removed: {error}", self.path.display());
        }
    }
}

/// `--chown`: root without it; a user alone is the group too.
fn owner_of(text: Option<&str>, root: &Path) -> Result<(u32, u32), DockerfileProblem> {
    let Some(text) = text else { return Ok((0, 0)) };
    let user = User::find(text, root)?;
    Ok((user.uid, if text.contains(':') { user.gid } else { user.uid }))
}

/// A new UUID for each Dockerfile.
fn build_id() -> Result<String, ExtendError> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    let text = fs::read_to_string(path).map_err(super::file("read", path))?;
    Ok(text.trim().to_owned())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DockerfileProblem + use<> {
    let path = path.to_owned();
    move |source| DockerfileProblem::File { path, source }
}
