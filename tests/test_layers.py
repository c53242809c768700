"""Imports only go down: every module and package has its place in an order, and imports only what stands before it."""

from __future__ import annotations

from functools import cache

from docs.package_diagram import Imports, children, imports

LAYERS: dict[str, str] = {
    "nodegraph": (
        "light_dataclass gc_pause text errors terminal files settings node_types plugins workflow graph cache run engine "
        "reproduce sweeps plugin_api cli __main__"
    ),
    "nodegraph.cache": (
        "dependencies file_digests key_text keys least_recently_used store anonymous_files snapshots taker exports results memory "
        "items current_code cache"
    ),
    "nodegraph.cache.store": (
        "layout locks work lock_holder journal records index index_queries safe_io record_files blobs usage maintenance store "
        "remote opening"
    ),
    "nodegraph.cache.store.maintenance": "progress exports verify collect clear upkeep",
    "nodegraph.cache.store.remote": (
        "names seals objects health uploads claims sending remote_store tiered_store contents care transfer sent_files"
    ),
    "nodegraph.cli": (
        "failures help plugin_options completion options previews inline viewer counter progress sweep_progress "
        "running run_options tables plugins group storage workflows exchange projects"
    ),
    "nodegraph.cli.exchange": "readable written import_graph export_graph",
    "nodegraph.cli.inline": "protocol question outputs",
    "nodegraph.cli.plugins": "describe nodes plugins registries schema",
    "nodegraph.cli.projects": "checks config doctor init stubs",
    "nodegraph.cli.storage": "facts shared_store cache runs",
    "nodegraph.cli.workflows": "made notes resolved check diff examples explain lock run show verify sweep watch",
    "nodegraph.graph": (
        "graph suggest overrides expansion params read_files inputs param_types order origins composed node_checks build "
        "remarks load"
    ),
    "nodegraph.graph.expansion": "names decided flat outside scopes embedded nesting values lists switches uses expand undecided",
    "nodegraph.node_types": "fetching on_demand item_ports port_types spec portable returned yaml_core literals signature",
    "nodegraph.plugins": (
        "backend registry registered state codec list_codec codecs code distributions discovery hookspecs hook_checks "
        "watched used_code manager"
    ),
    "nodegraph.plugins.state": "generators shared_changes locale_state number_state known_state surroundings",
    "nodegraph.plugins.code": (
        "libraries installed running loads hidden_loads import_scan code_files imports plugin_code module_state shared_modules "
        "watch"
    ),
    "nodegraph.run": (
        "device known_results verification model_memory outputs options plan deciding events display result record lock "
        "explain tasks handle node workers scheduler session"
    ),
    "nodegraph.run.display": "time_left values notebook",
    "nodegraph.run.node": ("interrupted process_state work node_run inputs failure call attempts stored_result outcome run_node"),
    "nodegraph.reproduce": "lock sides diff",
    "nodegraph.run.lock": "lock_file expected changes locked facts",
    "nodegraph.run.outputs": "names same_file own_files whole writer",
    "nodegraph.run.tasks": "task maker groups",
    "nodegraph.run.workers": "stall setup protocol jobs task_runner dispatcher threads ray",
    "nodegraph.run.workers.ray": "reach messages unit_files resident_models actor cluster units local start crew shipping workers",
    "nodegraph.settings": "names remote sizes files values",
    "nodegraph.sweeps": "axes points identity sheets table result gathering locked checked folder point_runs ahead run",
    "nodegraph.workflow": (
        "definitions diagram scalars text_file yaml_tree dump patch document presets subworkflows handles "
        "recorded workflow exchange output_metadata editors"
    ),
    "nodegraph.workflow.editors": "json_schema stubs",
    "nodegraph.workflow.diagram": "diagram layout mermaid svg",
    "nodegraph_diffusion": (
        "beside masks resizing canny tiles latent_files tiny networks noise_schedule checkpoint adapters conditioning denoising "
        "options guidance schedules sampling testing text training recipes"
    ),
    "nodegraph_diffusion.adapters": "lora",
    "nodegraph_diffusion.adapters.lora": "match family rotations formulas patch",
    "nodegraph_diffusion.checkpoint": "errors families files layouts detect load write",
    "nodegraph_diffusion.checkpoint.detect": (
        "contents lora embedding model trained shapes sizes controlnet sources extra_networks text_encoders unets folder "
        "single_file description"
    ),
    "nodegraph_diffusion.checkpoint.detect.extra_networks": "file gligen image_encoder t2i_adapter taesd other_upscaler upscaler",
    "nodegraph_diffusion.checkpoint.files": (
        "hub_connection hub_errors hub_hash hub_incomplete hub_resume hub json_file pickle_opcodes pickle_permission "
        "tensor_info pickle_file safetensors header mapped_file"
    ),
    "nodegraph_diffusion.checkpoint.layouts": (
        "configs diffusers_folder ldm lora adapter_kinds adapter_shapes peft_config modules controlnet openclip other_families "
        "scaled_fp8"
    ),
    "nodegraph_diffusion.checkpoint.load": "blank_network weights other_upscaler networks",
    "nodegraph_diffusion.checkpoint.write": "stream weights controlnet diffusers_folder safetensors_file single_file tuned_model",
    "nodegraph_diffusion.conditioning": "steps prompt image_prompts regions sdxl_sizes",
    "nodegraph_diffusion.denoising": "beside current_step threads preview protocols unet_denoiser batching unguided wrapper mask",
    "nodegraph_diffusion.guidance": (
        "adjusted attention_layers classifier_score clip_score dynamic_threshold gradient interval perturbed_attention prompts "
        "classifier_free composed dual perp_neg rescale self_attention spec"
    ),
    "nodegraph_diffusion.networks": (
        "source attention config shapes clip taesd unet classifier controlnet gligen rrdb t2i_adapter vae vector_quantiser"
    ),
    "nodegraph_diffusion.recipes": "pixels bytepairs pictureworld tiny embedded",
    "nodegraph_diffusion.recipes.embedded": (
        "data layout autoencoder text latents denoiser decoder painting evaluation export figures card stages __main__"
    ),
    "nodegraph_diffusion.recipes.pictureworld": (
        "hashing scene combinations sampling drawing annotations captions sheet judges __main__"
    ),
    "nodegraph_diffusion.recipes.pictureworld.captions": "demands phrases reading writing",
    "nodegraph_diffusion.recipes.pictureworld.drawing": "raster palette parts buildings creatures sprites land sky picture",
    "nodegraph_diffusion.recipes.pictureworld.judges": "background distortions boxes maps matched_filter network accuracy training",
    "nodegraph_diffusion.recipes.tiny": (
        "world data autoencoder examples learned_judge matched_filter verdict vocabulary evaluation text denoiser train __main__"
    ),
    "nodegraph_diffusion.recipes.tiny.world": "scene captions palette things drawing",
    "nodegraph_diffusion.sampling": "measured_orders options protocols noise spec methods run",
    "nodegraph_diffusion.sampling.methods": (
        "churn ddim dpmpp er_sde euler cfg_pp dpm_2 dpm_solver dpm_adaptive dpmpp_singlestep exponential dpmpp_sde "
        "gradient_estimation heun lcm multistep adams deis res_multistep restart sa_solver seeds uni_pc"
    ),
    "nodegraph_diffusion.schedules": "levels align_your_steps continuous spec timestep_spacing timesteps",
    "nodegraph_diffusion.testing": "registered toys convergence __main__ guidance samplers schedules",
    "nodegraph_diffusion.text": "emphasis scheduled inversion plain_syntax template tokenizer encode",
    "nodegraph_diffusion.training": "widening losses noising speed team budget optimiser loop tasks pictures tuning",
    "nodegraph_diffusion.training.loop": (
        "precision muon options seeds examples task average recompute state metrics network trainer"
    ),
    "nodegraph_diffusion.training.losses": "adversarial contrastive frechet gaussian perceptual",
    "nodegraph_diffusion.training.noising": "betas latent_scale steps targets variational_bound objective",
    "nodegraph_diffusion.training.pictures": "buckets source store captions latents",
    "nodegraph_diffusion.training.tasks": "conditions denoiser autoencoder clip classifier",
    "nodegraph_diffusion.training.tuning": "controlnet inversion lora",
    "nodegraph_nodes": (
        "imported_torch forks waiting hookspecs "
        "model_folders catalogue model_files pictures types conversions codecs library_switches torch_switches "
        "process_state models trained commands nodes plugin"
    ),
    "nodegraph_comfyui": "reading building classes families converting arranging files importer exporting plugin",
    "nodegraph_comfyui.building": "steps values call denoisers",
    "nodegraph_comfyui.classes": (
        "node_class renaming loaders conditioning guides images latents masks sampling samplers guidance sigmas primitives table"
    ),
    "nodegraph_comfyui.exporting": "graph sampling models prompts latents pictures renamings nodes editor exporter prompt_text",
    "nodegraph_comfyui.reading": "signs numbers groups graph file api editor flatten",
    "nodegraph_training": "types data training nodes plugin",
    "nodegraph_training.data": "captions folder picture_world",
    "nodegraph_training.nodes": "data inputs options adapters autoencoders classifiers denoisers pixels text_encoders evaluate",
    "nodegraph_training.training": (
        "loop sizes networks texts examples latents conditions words denoising unets painting evaluation distance export"
    ),
    "nodegraph_nodes.commands": "help convert options model_summary model_listing models new_plugin",
    "nodegraph_nodes.models": (
        "device errors extra_channels find opened_files patches parts autoencoder control_nets denoisers previews "
        "residency backend text_encoders"
    ),
    "nodegraph_nodes.pictures": (
        "colours side_data files exif texts foreign foreign_files formats parameters plots sheets labelled_sheet difference inline"
    ),
    "nodegraph_nodes.pictures.inline": "png iterm kitty sixel show",
    "nodegraph_nodes.trained": "codec files models",
    "nodegraph_nodes.nodes": (
        "outlines adapters batches conditioning edges gligen grid guidance labels mask mask_edits repaint latent latents "
        "latent_edits lists concat image image_prompts models plot sigmas sampling template text upscale"
    ),
}
"""The modules and packages inside each package, lowest first."""


@cache
def inside() -> dict[str, Imports]:
    """Each package with its modules and packages, and what each of these imports inside the package."""
    return children(imports())


def test_every_module_has_a_layer():
    assert {package: sorted(names.split()) for package, names in LAYERS.items()} == {
        package: sorted(modules) for package, modules in inside().items()
    }


def test_imports_go_down():
    up = []
    for package, modules in inside().items():
        order = LAYERS[package].split()
        for name, targets in modules.items():
            up += [f"{package}.{name} -> {target}" for target in targets if order.index(target) >= order.index(name)]
    assert sorted(up) == []


def test_folders_have_at_most_fourteen_modules():
    folders_of_equals = ("methods", "guidance", "schedules", "nodes")
    counts = {
        package: sum(f"{package}.{name}" not in inside() for name in names)
        for package, names in inside().items()
        if package.rpartition(".")[2] not in folders_of_equals
    }
    assert {package: count for package, count in counts.items() if count > 14} == {}
