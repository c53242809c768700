"""Classes that choose a sampler, most of them with its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from nodegraph.plugin_api import dataclass
from nodegraph_comfyui.building.call import Call
from nodegraph_comfyui.building.values import Method
from nodegraph_comfyui.classes.node_class import NodeClass

_NOISE: Final = "eta:FLOAT=1.0 s_noise:FLOAT=1.0"
_DEVICE: Final = "noise_device:COMBO=gpu"


@dataclass(frozen=True)
class Chooser:
    """A class for one sampler: its inputs, the options that have other names here, and the values of options that have."""

    name: str
    sampler: str
    inputs: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def method(self, call: Call) -> Method:
        """The sampler with the options that are not the usual ones."""
        known = {name: found for name, found in call.inputs.items() if found.is_value and name != "noise_device"}
        options = {
            self.renamed.get(name, name): self._value(call, name) for name in known if call.literal(name) != known[name].default
        }
        on_gpu = "noise_device" in call.inputs and call.choice("noise_device", {"gpu": True, "cpu": False})
        return Method(name=f"{self.sampler}_gpu" if on_gpu else self.sampler, options=tuple(options.items()))

    def inputs_of(self, options: Mapping[str, Any]) -> dict[str, Any] | None:
        """The inputs for options of the sampler; None if the class does not have all of them."""
        names = {self.renamed.get(name, name): name for name in self.node.known if self.node.known[name].is_value}
        if not {*options} <= {*names} or "model" in self.node.known:
            return None
        meanings = {name: {ours: theirs for theirs, ours in found.items()} for name, found in self.values.items()}
        return {
            there: meanings.get(there, {}).get(options[ours], options[ours]) for ours, there in names.items() if ours in options
        }

    @property
    def node(self) -> NodeClass:
        """The class."""
        return NodeClass(
            name=self.name,
            title=self.name,
            inputs=self.inputs,
            outputs=("SAMPLER",),
            convert=self.method,
            here=("Sampler",),
            renamed=f"`options` of `{self.sampler}`",
            differs="noise is always drawn on the CPU" if "noise_device" in self.inputs else "",
        )

    def _value(self, call: Call, name: str) -> Any:
        return call.choice(name, self.values[name]) if name in self.values else call.literal(name)


CHOOSERS: Final = (
    Chooser("SamplerEulerAncestral", "euler_ancestral", _NOISE),
    Chooser("SamplerEulerAncestralCFGPP", "euler_ancestral_cfg_pp", _NOISE),
    Chooser("SamplerDPMPP_2S_Ancestral", "dpmpp_2s_ancestral", _NOISE),
    Chooser("SamplerDPMPP_2M_SDE", "dpmpp_2m_sde", f"solver_type:COMBO=midpoint {_NOISE} {_DEVICE}"),
    Chooser("SamplerDPMPP_3M_SDE", "dpmpp_3m_sde", f"{_NOISE} {_DEVICE}"),
    Chooser("SamplerDPMPP_SDE", "dpmpp_sde", f"{_NOISE} r:FLOAT=0.5 {_DEVICE}"),
    Chooser("SamplerLMS", "lms", "order:INT=4"),
    Chooser(
        "SamplerDPMAdaptative",
        "dpm_adaptive",
        "order:INT=3 rtol:FLOAT=0.05 atol:FLOAT=0.0078 h_init:FLOAT=0.05 pcoeff:FLOAT=0.0 icoeff:FLOAT=1.0 dcoeff:FLOAT=0.0 "
        "accept_safety:FLOAT=0.81 eta:FLOAT=0.0 s_noise:FLOAT=1.0",
    ),
    Chooser(
        "SamplerER_SDE",
        "er_sde",
        f"solver_type:COMBO=ER-SDE max_stage:INT=3 {_NOISE}",
        values={"solver_type": {"ER-SDE": "er_sde", "Reverse-time SDE": "reverse_time", "ODE": "ode"}},
    ),
    Chooser(
        "SamplerSASolver",
        "sa_solver",
        "model:MODEL eta:FLOAT=1.0 sde_start_percent:FLOAT=0.2 sde_end_percent:FLOAT=0.8 s_noise:FLOAT=1.0 predictor_order:INT=3 "
        "corrector_order:INT=4 use_pece:BOOLEAN=false simple_order_2:BOOLEAN=false",
        renamed={"sde_start_percent": "sde_start", "sde_end_percent": "sde_end"},
    ),
    Chooser("SamplerSEEDS2", "seeds_2", f"solver_type:COMBO=phi_1 {_NOISE} r:FLOAT=0.5", values={"solver_type": {"phi_1": ""}}),
)


def _named(call: Call) -> Method:
    return Method(name=call["sampler_name"])


CLASSES: Final = (
    NodeClass(
        name="KSamplerSelect",
        title="KSamplerSelect",
        inputs="sampler_name:COMBO=euler",
        outputs=("SAMPLER",),
        convert=_named,
        here=("Sampler",),
        renamed="sampler_name: `sampler`",
    ),
    *(chooser.node for chooser in CHOOSERS),
)
