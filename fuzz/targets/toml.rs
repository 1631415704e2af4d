//! The TOML files of buildpacks, builders and platforms, each read as every kind of file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore_cnb::buildpack_toml::Descriptor;
use longshore_cnb::group::ModuleKind;
use longshore_cnb::{analyzed, api, project_metadata, run, stack};

fuzz_target!(|text: &str| {
    drop(Descriptor::parse(ModuleKind::Buildpack, text));
    drop(Descriptor::parse(ModuleKind::Extension, text));
    drop(analyzed::Analyzed::parse(text));
    drop(run::Run::parse(text));
    drop(stack::Stack::parse(text));
    drop(project_metadata::ProjectMetadata::parse(text));
    drop(api::PlatformApi::parse(text));
    drop(toml::from_str::<longshore_cnb::order::OrderToml>(text));
    drop(toml::from_str::<longshore_cnb::plan::BuildPlan>(text));
    drop(toml::from_str::<longshore_cnb::store_toml::StoreToml>(text));
    drop(toml::from_str::<longshore_cnb::build_toml::BuildToml>(text));
    drop(toml::from_str::<longshore_cnb::layer_toml::LayerToml>(text));
    drop(toml::from_str::<longshore_cnb::group::Group>(text));
});
