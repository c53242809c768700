"""The deterministic and multistep samplers take k-diffusion's and diffusers' steps, and converge as fast as is declared.

Where conventions differ: k-diffusion and diffusers extrapolate the last step of `lms`, to noise level 0, and diffusers that of
iPNDM, where ours end at the estimate, as ComfyUI does; diffusers' UniPC takes level 0 itself, where ours takes 0.001; diffusers
knows schedules of its own only, so its schedulers are given our noise levels.
"""

from __future__ import annotations

import math

import diffusers
import pytest
import torch

from nodegraph_diffusion.sampling import SAMPLERS
from nodegraph_diffusion.schedule import schedule_karras, schedule_normal, schedule_simple
from tests.diffusion.toys import SCHEDULE, GaussianDenoiser, TwistedDenoiser, generator_noise, ignore_step, no_noise
from tests.kdiffusion import SAMPLING, KModel

# diffusers hands tensors to numpy in a way that numpy is about to drop
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

START = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ORDERS = {
    "ddim": 1,
    "deis": 2,
    "dpm_2": 2,
    "dpm_fast": 2,
    "dpm_solver_3": 3,
    "dpmpp_2m": 2,
    "euler": 1,
    "euler_cfg_pp": 1,
    "gradient_estimation": 1,
    "gradient_estimation_cfg_pp": 1,
    "heun": 2,
    "heunpp2": 1,
    "ipndm": 2,
    "ipndm_v": 2,
    "lms": 2,
    "plms": 2,
    "res_multistep": 2,
    "res_multistep_cfg_pp": 2,
    "uni_pc": 2,
    "uni_pc_bh2": 2,
}
SIGMAS = {
    **{
        f"{name}-{steps}": schedule(SCHEDULE, steps)
        for name, schedule in (("karras", schedule_karras), ("normal", schedule_normal), ("simple", schedule_simple))
        for steps in (1, 2, 3, 4, 5, 20)
    },
    "uneven": torch.tensor([9.0, 8.0, 3.0, 2.9, 0.7, 0.2, 0.0]),
    "ends-early": schedule_karras(SCHEDULE, 12)[:7],
    "begins-late": schedule_normal(SCHEDULE, 12)[6:],
    "one-step-not-to-0": torch.tensor([3.0, 1.0]),
}
every_schedule = pytest.mark.parametrize("sigmas", SIGMAS.values(), ids=SIGMAS)
CHURNED = {"s_churn": 5.0, "s_tmin": 0.5, "s_tmax": 8.0, "s_noise": 1.01}


def our_steps(name, sigmas, noise=no_noise, **options):
    """x after each step on the twisted denoiser, in float64."""
    steps = []
    x = START * sigmas[0]
    result = SAMPLERS[name](TwistedDenoiser(), x, sigmas, noise=noise, on_step=lambda i, x, denoised: steps.append(x), **options)
    assert result is steps[-1]
    return steps


def k_steps(sample, sigmas, *arguments, **options):
    """x after each step of a sampler of k-diffusion, which reports it before each."""
    reports = []
    x = START * sigmas[0]
    arguments = arguments or (sigmas.double(),)
    result = sample(
        KModel(TwistedDenoiser()), x, *arguments, callback=lambda report: reports.append(report["x"]), disable=True, **options
    )
    return [*reports[1:], result]


def assert_same_steps(ours, reference, relative=1e-4):
    assert len(ours) == len(reference)
    for mine, theirs in zip(ours, reference, strict=True):
        assert (mine - theirs).abs().max() <= relative * theirs.abs().max()


def last_positive(sigmas):
    return sigmas[sigmas > 0][-1].item()


@every_schedule
@pytest.mark.parametrize("name", ["euler", "heun", "dpm_2"])
@pytest.mark.parametrize("options", [{}, {"s_churn": 8.0}, CHURNED], ids=["plain", "churned", "churned-between"])
def test_k_diffusions_steps_with_churn(name, sigmas, options, monkeypatch):
    fixed = generator_noise(START)(0, 0)  # k-diffusion draws in every step, ours where noise is put in: so each draw is the same
    monkeypatch.setattr(SAMPLING.torch, "randn_like", lambda x: fixed)
    reference = k_steps(getattr(SAMPLING, f"sample_{name}"), sigmas, **options)
    noise = (lambda sigma_from, sigma_to: fixed) if options else no_noise
    ours = our_steps(name, sigmas, noise, **options)
    if options:  # they report x after the churn of the next step, we before it
        ours, reference = ours[-1:], reference[-1:]
    assert_same_steps(ours, reference)


def test_churn_puts_in_as_much_noise_as_it_should():
    sigmas, levels = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5]), []

    def noise(sigma_from, sigma_to):
        levels.append((sigma_from, sigma_to / sigma_from))
        return torch.zeros_like(START)

    our_steps("euler", sigmas, noise, s_churn=1.0, s_tmin=1.5, s_tmax=4.0)
    assert levels == [(4.0, 1.25), (2.0, 1.25)]  # 1 + s_churn / steps
    levels.clear()
    our_steps("euler", sigmas, noise, s_churn=40.0)
    assert [ratio for _, ratio in levels] == pytest.approx([math.sqrt(2)] * 4)


@every_schedule
@pytest.mark.parametrize("options", [{}, {"eta": 0.4, "s_noise": 0.9}, {"eta": 0.0}])
def test_dpm_2_ancestral_takes_k_diffusions_steps(sigmas, options):
    reference = k_steps(
        SAMPLING.sample_dpm_2_ancestral,
        sigmas,
        noise_sampler=lambda a, b: generator_noise(START, int(float(a) * 1e4))(a, b),
        **options,
    )
    noise = no_noise if options.get("eta") == 0 else lambda a, b: generator_noise(START, int(float(torch.tensor(a)) * 1e4))(a, b)
    assert_same_steps(our_steps("dpm_2_ancestral", sigmas, noise, **options), reference)


@every_schedule
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_lms_takes_k_diffusions_steps(sigmas, order):
    ours, reference = our_steps("lms", sigmas, order=order), k_steps(SAMPLING.sample_lms, sigmas, order=order)
    if sigmas[-1] == 0:
        reference = reference[:-1]
        *ours, last = ours
        before = ours[-1] if ours else START * sigmas[0]
        assert torch.equal(last, TwistedDenoiser()(before, sigmas[-2].item()))
    assert_same_steps(ours, reference)


def with_levels(scheduler, sigmas, last=0.0):
    """One of diffusers' schedulers, with noise levels of ours in place of its own."""
    scheduler.set_timesteps(len(sigmas) - 1)
    scheduler.sigmas = torch.cat([sigmas[:-1].double(), sigmas[-1:].double().clamp(min=last)])
    scheduler.timesteps = torch.arange(len(sigmas) - 1).flip(0)
    scheduler.num_inference_steps = len(sigmas) - 1
    return scheduler


def preserving(sigma):
    """x over the sample of the variance-preserving schedulers."""
    return (1 + sigma**2) ** 0.5


@every_schedule
@pytest.mark.parametrize(("name", "kind"), [("uni_pc", "bh1"), ("uni_pc_bh2", "bh2")])
def test_uni_pc_takes_diffusers_steps(name, kind, sigmas):
    steps = len(sigmas) - 1
    scheduler = with_levels(
        diffusers.UniPCMultistepScheduler(solver_order=max(1, min(3, steps - 1)), solver_type=kind), sigmas, last=0.001
    )
    levels, sample, reference = scheduler.sigmas, START * sigmas[0] / preserving(sigmas[0]), []
    for i, timestep in enumerate(scheduler.timesteps):
        x = sample * preserving(levels[i])
        predicted = (x - TwistedDenoiser()(x, levels[i])) / levels[i]
        sample = scheduler.step(predicted, timestep, sample).prev_sample
        reference.append(sample * preserving(levels[i + 1]))
    assert_same_steps(our_steps(name, sigmas), reference)


def variance_preserving_steps(scheduler, sigmas, output):
    """x after each call of a scheduler for the sample x / sqrt(1 + sigma^2); `output`(x, slope, sigma) is the network's."""
    levels = sigmas.double()
    sample, steps = START * sigmas[0] / preserving(levels[0]), []
    for timestep, (here, there) in scheduler:
        x = sample * preserving(levels[here])
        slope = (x - TwistedDenoiser()(x, levels[here])) / levels[here]
        sample = output(timestep, slope, sample, levels[here])
        steps.append(sample * preserving(levels[there]))
    return steps


@every_schedule
def test_plms_takes_diffusers_steps(sigmas):
    steps = len(sigmas) - 1
    scheduler = diffusers.PNDMScheduler(num_train_timesteps=steps, skip_prk_steps=True, set_alpha_to_one=True)
    scheduler.set_timesteps(steps)
    signal = 1 / (1 + sigmas.double() ** 2)
    scheduler.alphas_cumprod, scheduler.final_alpha_cumprod = signal[:-1].flip(0), signal[-1]
    # their second call is where the first one landed, and takes the first step again
    path = [(0, 1)] if steps == 1 else [(0, 1), (1, 1), *((i, i + 1) for i in range(1, steps))]
    calls = list(zip(scheduler.timesteps.tolist(), path, strict=True))
    reference = variance_preserving_steps(
        calls, sigmas, lambda timestep, slope, sample, sigma: scheduler.step(slope, timestep, sample).prev_sample
    )
    ours = our_steps("plms", sigmas)
    if steps == 1 and sigmas[-1] > 0:
        return  # theirs has no second call then
    assert_same_steps(ours, reference if steps == 1 else reference[1:])


@every_schedule
def test_ipndm_takes_diffusers_steps(sigmas):
    steps = len(sigmas) - 1
    scheduler = with_levels(diffusers.IPNDMScheduler(), sigmas)
    scheduler.alphas = 1 / preserving(sigmas.double())
    scheduler.betas = sigmas.double() / preserving(sigmas.double())

    def step(timestep, slope, sample, sigma):  # their network tells the velocity
        clean = sample * preserving(sigma) - slope * sigma
        velocity = (slope - clean * sigma) / preserving(sigma)
        return scheduler.step(velocity, timestep, sample).prev_sample

    calls = [(timestep, (i, i + 1)) for i, timestep in enumerate(scheduler.timesteps.tolist())]
    reference, ours = variance_preserving_steps(calls, sigmas, step), our_steps("ipndm", sigmas)
    kept = steps - 1 if sigmas[-1] == 0 else steps
    assert_same_steps(ours[:kept], reference[:kept])


@every_schedule
def test_dpm_2_takes_diffusers_steps(sigmas):
    steps = len(sigmas) - 1
    scheduler = diffusers.KDPM2DiscreteScheduler()
    scheduler.set_timesteps(steps)
    levels = sigmas.double()
    between = levels.log().lerp(levels.roll(1).log(), 0.5).exp()
    scheduler.sigmas = torch.cat([levels[:1], levels[1:].repeat_interleave(2), levels[-1:]])
    scheduler.sigmas_interpol = torch.cat([between[:1], between[1:].repeat_interleave(2), between[-1:]])
    scheduler.timesteps = torch.arange(2 * steps)
    sample, reference = START * sigmas[0], []
    for i in range(2 * steps if sigmas[-1] > 0 else 2 * steps - 1):
        sigma = scheduler.sigmas[i] if scheduler.state_in_first_order else scheduler.sigmas_interpol[i]
        if scheduler.state_in_first_order and scheduler.sigmas[i + 1] == 0:  # theirs has no middle there, either
            reference.append(TwistedDenoiser()(sample, sigma))
            break
        sample = scheduler.step((sample - TwistedDenoiser()(sample, sigma)) / sigma, scheduler.timesteps[i], sample).prev_sample
        if scheduler.state_in_first_order:
            reference.append(sample)
    assert_same_steps(our_steps("dpm_2", sigmas), reference)


@every_schedule
def test_dpm_solver_3_takes_k_diffusions_steps(sigmas):
    solver = SAMPLING.DPMSolver(KModel(TwistedDenoiser()))
    x, reference = START * sigmas[0], []
    for sigma, sigma_next in zip(sigmas.double(), sigmas.double()[1:], strict=False):
        if sigma_next == 0:
            x = TwistedDenoiser()(x, sigma)
        else:
            x, _ = solver.dpm_solver_3_step(x, solver.t(sigma), solver.t(sigma_next))
        reference.append(x)
    assert_same_steps(our_steps("dpm_solver_3", sigmas), reference)


@every_schedule
@pytest.mark.parametrize("options", [{}, {"eta": 0.5, "s_noise": 0.9}])
def test_dpm_fast_takes_k_diffusions_steps(sigmas, options):
    first, last = sigmas[0].item(), last_positive(sigmas)
    noise = no_noise if not options else generator_noise(START)
    ours = our_steps("dpm_fast", sigmas, noise, **options)
    if first == last:
        assert torch.equal(ours[-1], TwistedDenoiser()(START * first, first))
        return
    drawn = generator_noise(START)
    arguments = last, first, len(sigmas) - 1
    assert_same_steps(ours, k_steps(SAMPLING.sample_dpm_fast, sigmas, *arguments, noise_sampler=drawn, **options))


@every_schedule
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"order": 2},
        {"rtol": 0.01, "atol": 0.001, "h_init": 0.5},
        {"pcoeff": 0.4, "icoeff": 0.3, "dcoeff": 0.1, "accept_safety": 0.9},
        {"eta": 0.5, "s_noise": 0.9},
    ],
)
def test_dpm_adaptive_takes_k_diffusions_steps(sigmas, options):
    first, last = sigmas[0].item(), last_positive(sigmas)
    noise = generator_noise(START) if "eta" in options else no_noise
    ours = our_steps("dpm_adaptive", sigmas, noise, **options)
    if first == last:
        assert torch.equal(ours[-1], TwistedDenoiser()(START * first, first))
        return
    reports = []
    result = SAMPLING.sample_dpm_adaptive(
        KModel(TwistedDenoiser()),
        START * first,
        last,
        first,
        callback=reports.append,
        disable=True,
        noise_sampler=generator_noise(START),
        **options,
    )
    assert len(ours) == reports[-1]["n_accept"]
    assert_same_steps(ours[-1:], [result], relative=1e-3)  # theirs computes its step lengths in float32


def test_dpm_adaptive_tries_steps_again():
    denoise = GaussianDenoiser()
    steps = []
    sigmas = schedule_karras(SCHEDULE, 8)
    SAMPLERS["dpm_adaptive"](
        denoise, START * 14, sigmas, noise=no_noise, on_step=lambda *step: steps.append(step), h_init=4.0, rtol=0.001, atol=0.0001
    )
    assert [step[0] for step in steps] == list(range(len(steps)))
    assert len(denoise.levels) > 3 * len(steps)
    assert len(denoise.levels) % 3 == 0


def test_dpm_adaptive_ends_where_the_denoiser_gives_nan():
    with pytest.raises(ValueError, match="finite error"):
        SAMPLERS["dpm_adaptive"](
            lambda x, sigma: x * math.nan, START, torch.tensor([2.0, 1.0, 0.0]), noise=no_noise, on_step=ignore_step
        )


# --- what neither has: the formula, written once more ---


def slope_at(x, sigma):
    return (x - TwistedDenoiser()(x, sigma)) / sigma


@every_schedule
def test_heunpp2_is_its_formula(sigmas):
    levels = sigmas.double().tolist()
    x, reference = START * levels[0], []
    for i in range(len(levels) - 1):
        h, d = levels[i + 1] - levels[i], slope_at(x, levels[i])
        if i == len(levels) - 2:
            x = x + h * d
        else:
            x2 = x + h * d
            d2 = slope_at(x2, levels[i + 1])
            if i == len(levels) - 3:
                w2 = levels[i + 1] / (2 * levels[0])
                x = x + h * ((1 - w2) * d + w2 * d2)
            else:
                d3 = slope_at(x2 + (levels[i + 2] - levels[i + 1]) * d2, levels[i + 2])
                w2, w3 = levels[i + 1] / (3 * levels[0]), levels[i + 2] / (3 * levels[0])
                x = x + h * ((1 - w2 - w3) * d + w2 * d2 + w3 * d3)
        reference.append(x)
    assert_same_steps(our_steps("heunpp2", sigmas), reference, 1e-7)


def test_heunpp2_churns():
    sigmas = torch.tensor([8.0, 4.0, 2.0])
    drawn = generator_noise(START)(0, 0)
    ours = our_steps("heunpp2", sigmas, lambda a, b: drawn, s_churn=0.5, s_tmin=5.0, s_noise=0.9)
    x = START * 8 + drawn * 0.9 * 8 * math.sqrt(1.25**2 - 1)
    d = slope_at(x, 10.0)
    w2 = 4 / 16
    torch.testing.assert_close(ours[0], x + (4 - 10) * ((1 - w2) * d + w2 * slope_at(x + (4 - 10) * d, 4.0)))


@every_schedule
def test_ipndm_v_is_what_was_published(sigmas):
    """The weights of the AMED-Solver's code, slips and all."""
    levels = sigmas.double().tolist()
    x, reference, ds = START * levels[0], [], []
    for i in range(len(levels) - 1):
        ds = [slope_at(x, levels[i]), *ds][:4]
        h = [levels[i + 1 - k] - levels[i - k] for k in range(len(ds))]
        c = [1.0, 0, 0, 0]
        if len(ds) == 2:
            c = [(2 + h[0] / h[1]) / 2, -h[0] / h[1] / 2]
        if len(ds) > 2:
            t1 = (1 - h[0] / (3 * (h[0] + h[1])) * (h[0] * (h[0] + h[1])) / (h[1] * (h[1] + h[2]))) / 2
            c = [(2 + h[0] / h[1]) / 2 + t1, -h[0] / h[1] / 2 - (1 + h[1] / h[2]) * t1, t1 * h[1] / h[2]]
        if len(ds) == 4:
            q = h[1] * (h[1] + h[2]) / (h[2] * (h[2] + h[3]))
            t2 = (1 - h[0] / (3 * (h[0] + h[1]))) / 2 + (1 - h[0] / (2 * (h[0] + h[1]))) * h[0] / (6 * (h[0] + h[1] + h[2]))
            t2 *= h[0] * (h[0] + h[1]) * (h[0] + h[1] + h[2]) / (h[1] * (h[1] + h[2]) * (h[1] + h[2] + h[3]))
            c[0] += t2
            c[1] -= (1 + h[1] / h[2] + q) * t2
            c[2] += (h[1] / h[2] + q * (1 + h[2] / h[3])) * t2
            c.append(-t2 * q * h[1] / h[2])
        step = h[0] * sum(weight * d for weight, d in zip(c, ds, strict=False))
        x = TwistedDenoiser()(x, levels[i]) if levels[i + 1] == 0 else x + step
        reference.append(x)
    assert_same_steps(our_steps("ipndm_v", sigmas), reference, 1e-7)


@every_schedule
def test_ipndm_v_is_lms_up_to_second_order(sigmas):
    assert_same_steps(our_steps("ipndm_v", sigmas, max_order=2), our_steps("lms", sigmas, order=2), 1e-9)


@every_schedule
@pytest.mark.parametrize("max_order", [2, 3, 4])
def test_deis_is_the_integral_in_time(sigmas, max_order):
    """By a sum of 10000 terms over the time of the process whose sigma(0.001) is 0.002 and whose sigma(1) is 80."""
    beta_d = 2 * (math.log(0.002**2 + 1) / 1e-3 - math.log(80**2 + 1)) / (1e-3 - 1)
    beta_min = math.log(80**2 + 1) - 0.5 * beta_d
    levels = sigmas.double()
    times = ((beta_min**2 + 2 * beta_d * (levels**2 + 1).log()).sqrt() - beta_min) / beta_d
    assert torch.allclose(torch.expm1(beta_d / 2 * times**2 + beta_min * times), levels**2)
    x, reference, ds = START * levels[0], [], []
    for i in range(len(levels) - 1):
        ds = [slope_at(x, levels[i]), *ds][:max_order]
        if levels[i + 1] == 0 or len(ds) == 1:
            x = x + (levels[i + 1] - levels[i]) * ds[0]
        else:
            grid = torch.linspace(times[i], times[i + 1], 10001, dtype=torch.float64)
            middle = (grid[1:] + grid[:-1]) / 2
            past = times[[i - k for k in range(len(ds))]]
            rise = torch.expm1(beta_d / 2 * grid**2 + beta_min * grid).sqrt().diff()
            for j, d in enumerate(ds):
                others = [k for k in range(len(ds)) if k != j]
                basis = math.prod((middle - past[k]) / (past[j] - past[k]) for k in others)
                x = x + (basis * rise).sum() * d
        reference.append(x)
    assert_same_steps(our_steps("deis", sigmas, max_order=max_order), reference)


@every_schedule
def test_deis_in_rho_is_lms(sigmas):
    assert_same_steps(our_steps("deis", sigmas, deis_mode="rhoab"), our_steps("lms", sigmas, order=3), 1e-9)


def sides(cfg_pp):
    """What gives (denoised, what tells the noise)."""
    return TwistedDenoiser().guided if cfg_pp else lambda x, sigma: (TwistedDenoiser()(x, sigma),) * 2


@every_schedule
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_euler_with_cfg_pp_renoises_what_is_guided(sigmas, eta):
    x, reference, noise = START * sigmas[0], [], generator_noise(START)
    for sigma, sigma_next in zip(sigmas.tolist(), sigmas.tolist()[1:], strict=False):
        denoised, negative = TwistedDenoiser().guided(x, sigma)
        up = min(sigma_next, eta * math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2))
        down = math.sqrt(sigma_next**2 - up**2)
        x = denoised + down * (x - negative) / sigma
        if up > 0:
            x = x + up * 0.9 * noise(sigma, sigma_next)
        reference.append(x)
    assert_same_steps(our_steps("euler_ancestral_cfg_pp", sigmas, generator_noise(START), eta=eta, s_noise=0.9), reference, 1e-7)
    if eta == 0:
        assert_same_steps(our_steps("euler_cfg_pp", sigmas), reference, 1e-7)


@every_schedule
@pytest.mark.parametrize("cfg_pp", [False, True])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_res_multistep_is_an_exponential_integrator(sigmas, eta, cfg_pp):
    """x e^-h + h (b1 f + b2 f'), f' being the last estimate, at c2 h from the start: b2 = phi2(-h) / c2, b1 = phi1(-h) - b2."""
    x, reference, noise = START * sigmas[0], [], generator_noise(START)
    last = None
    for sigma, sigma_next in zip(sigmas.tolist(), sigmas.tolist()[1:], strict=False):
        denoised, seen = sides(cfg_pp)(x, sigma)
        up = min(sigma_next, eta * math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2))
        down = math.sqrt(sigma_next**2 - up**2)
        if last is None or down == 0:
            x = denoised + down * (x - seen) / sigma
        else:
            old, old_sigma, old_down = last
            h = math.log(sigma) - math.log(down)
            c2 = (math.log(old_down) - math.log(old_sigma)) / h
            phi1 = (math.exp(-h) - 1) / -h
            phi2 = (math.exp(-h) - 1 + h) / h**2
            x = math.exp(-h) * (x + denoised - seen) + h * ((phi1 - phi2 / c2) * seen + phi2 / c2 * old)
        if up > 0:
            x = x + up * noise(sigma, sigma_next)
        last = seen, sigma, down
        reference.append(x)
    name = f"res_multistep_ancestral{'_cfg_pp' * cfg_pp}"
    assert_same_steps(our_steps(name, sigmas, generator_noise(START), eta=eta), reference, 1e-7)
    if eta == 0:
        assert_same_steps(our_steps(f"res_multistep{'_cfg_pp' * cfg_pp}", sigmas), reference, 1e-7)


@every_schedule
@pytest.mark.parametrize("cfg_pp", [False, True])
@pytest.mark.parametrize("gamma", [1.0, 2.0, 2.5])
def test_gradient_estimation_is_its_formula(sigmas, gamma, cfg_pp):
    x, reference, old = START * sigmas[0], [], None
    for sigma, sigma_next in zip(sigmas.tolist(), sigmas.tolist()[1:], strict=False):
        denoised, seen = sides(cfg_pp)(x, sigma)
        slope = (x - seen) / sigma
        estimated = slope if old is None or sigma_next == 0 else gamma * slope + (1 - gamma) * old
        x = x + (denoised - seen) + (sigma_next - sigma) * estimated
        old = slope
        reference.append(x)
    name = "gradient_estimation_cfg_pp" if cfg_pp else "gradient_estimation"
    assert_same_steps(our_steps(name, sigmas, ge_gamma=gamma), reference, 1e-7)


@every_schedule
def test_ddpm_is_ho_et_al_with_the_posterior_variance(sigmas):
    """Eq. 11 for the mean, over the predicted noise, and beta-tilde of Eq. 7: what ComfyUI's `ddpm` computes, too."""
    x, reference, noise = START * sigmas[0], [], generator_noise(START)
    for sigma, sigma_next in zip(sigmas.double().tolist(), sigmas.double().tolist()[1:], strict=False):
        alpha_bar, alpha_bar_next = 1 / (1 + sigma**2), 1 / (1 + sigma_next**2)
        alpha = alpha_bar / alpha_bar_next
        epsilon = slope_at(x, sigma)
        z = (x * math.sqrt(alpha_bar) - (1 - alpha) / math.sqrt(1 - alpha_bar) * epsilon) / math.sqrt(alpha)
        if sigma_next > 0:
            z = z + math.sqrt((1 - alpha_bar_next) / (1 - alpha_bar) * (1 - alpha)) * noise(sigma, sigma_next)
        x = z / math.sqrt(alpha_bar_next)
        reference.append(x)
    assert_same_steps(our_steps("ddpm", sigmas, generator_noise(START)), reference, 1e-7)


# --- restart ---


def restart_levels(sigmas, **options):
    """The levels that the denoiser is asked at, and those between which noise is put in."""
    denoise, lifts = GaussianDenoiser(), []

    def noise(sigma_from, sigma_to):
        lifts.append((sigma_from, sigma_to))
        return torch.zeros_like(START)

    SAMPLERS["restart"](denoise, START * sigmas[0], sigmas, noise=noise, on_step=ignore_step, **options)
    return denoise.levels, lifts


def test_restart_without_intervals_is_heun():
    sigmas = schedule_karras(SCHEDULE, 10)
    for ours, heun in zip(our_steps("restart", sigmas, intervals=[]), our_steps("heun", sigmas), strict=True):
        assert torch.equal(ours, heun)


def test_restart_goes_back_and_comes_again():
    sigmas = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5, 0.0])
    levels, lifts = restart_levels(sigmas, intervals=[[0.9, 3.0, 2, 2], [0.1, 0.4, 1, 1], [20.0, 30.0, 1, 1]])
    middle = ((3 ** (1 / 7) + 1) / 2) ** 7
    again = [3.0, middle, middle, 1.0]
    assert lifts == [(1.0, 3.0), (1.0, 3.0)]  # the second begins below where it ends, the third is above all
    assert levels == pytest.approx([8, 4, 4, 2, 2, 1, *again, *again, 1, 0.5, 0.5])


def test_restart_takes_as_many_steps_as_the_schedule_by_default():
    sigmas = schedule_karras(SCHEDULE, 20)
    levels, ((low, high),) = restart_levels(sigmas)
    assert high == 2.0
    assert low == min(sigmas[:-1].tolist(), key=lambda level: abs(level - 0.1))
    inside = sum(low < level <= 2 for level in sigmas.tolist())
    assert len(levels) == 39 + 2 * inside


def test_restart_puts_in_the_noise_that_is_missing():
    sigmas, drawn = torch.tensor([4.0, 1.0]), generator_noise(START)(0, 0)
    ours = our_steps("restart", sigmas, lambda a, b: drawn, intervals=[[1.0, 3.0, 1, 1]], s_noise=0.8)[-1]
    landed = our_steps("heun", sigmas)[-1]
    lifted = landed + drawn * 0.8 * math.sqrt(8)
    expected = SAMPLERS["heun"](TwistedDenoiser(), lifted, torch.tensor([3.0, 1.0]), noise=no_noise, on_step=ignore_step)
    torch.testing.assert_close(ours, expected)


# --- what all of them promise ---


def error(name, steps):
    """The distance from the exact solution after `steps` steps, even in log sigma, from level 1 to 0.1.

    From a higher level, what is foretold in the first steps is so near to nothing that their lower order does not show.
    """
    denoise = GaussianDenoiser()
    sigmas = torch.logspace(0, -1, steps + 1, dtype=torch.float64)
    sampled = SAMPLERS[name](denoise, START, sigmas, noise=no_noise, on_step=ignore_step)
    return (sampled - denoise.solution(START, 1.0, 0.1)).abs().max().item()


@pytest.mark.parametrize(("name", "order"), ORDERS.items())
def test_order_of_convergence(name, order):
    assert SAMPLERS[name].order == order
    assert math.log2(error(name, 96) / error(name, 192)) == pytest.approx(order, abs=0.15)


def test_dpm_adaptive_heeds_its_tolerance():
    sigmas, denoise, errors = torch.tensor([10.0, 0.1]), GaussianDenoiser(), []
    for tolerance in (1e-1, 1e-2, 1e-3, 1e-4):
        sampled = SAMPLERS["dpm_adaptive"](
            denoise, START * 10, sigmas, noise=no_noise, on_step=ignore_step, rtol=tolerance, atol=tolerance / 10
        )
        errors.append((sampled - denoise.solution(START * 10, 10.0, 0.1)).abs().max().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3


CALLS = {  # of the denoiser, in n steps to level 0
    "dpm_2": lambda n: 2 * n - 1,
    "dpm_2_ancestral": lambda n: 2 * n - 1,
    "dpm_solver_3": lambda n: 3 * n - 2,
    "dpm_fast": lambda n: n,
    "heun": lambda n: 2 * n - 1,
    "heunpp2": lambda n: 3 * n - 3 if n > 1 else 1,
    "plms": lambda n: n + 1 if n > 1 else 1,
}
ONE_CALL = [*sorted(ORDERS.keys() - CALLS), "euler_ancestral_cfg_pp", "res_multistep_ancestral", "res_multistep_ancestral_cfg_pp"]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("name", [*CALLS, *ONE_CALL])
def test_calls_of_the_denoiser(name, steps):
    denoise, sigmas = GaussianDenoiser(), schedule_karras(SCHEDULE, steps)
    noise = generator_noise(START) if SAMPLERS[name].stochastic else no_noise
    SAMPLERS[name](denoise, START * sigmas[0], sigmas, noise=noise, on_step=ignore_step)
    assert len(denoise.levels) == CALLS.get(name, lambda n: n)(steps)
    assert all(level > 0 for level in denoise.levels)


ONE_STEP = [
    "euler_cfg_pp",
    "euler_ancestral_cfg_pp",
    "dpm_2",
    "dpm_2_ancestral",
    "dpm_solver_3",
]  # nothing is kept from step to step


@pytest.mark.parametrize("name", ONE_STEP)
def test_a_run_in_two_parts_is_the_same(name):
    sigmas = schedule_karras(SCHEDULE, 6)
    whole = our_steps(name, sigmas, generator_noise(START))
    noise = generator_noise(START)
    half = our_steps(name, sigmas[:4], noise)[-1]
    rest = SAMPLERS[name](TwistedDenoiser(), half, sigmas[3:], noise=noise, on_step=ignore_step)
    assert torch.equal(rest, whole[-1])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("euler", {"s_churn": -1.0}, "sampler euler: expected s_churn of at least 0, found -1.0"),
        ("heun", {"s_noise": -1.0}, "sampler heun: expected s_noise of at least 0"),
        ("heunpp2", {"s_tmin": -1.0}, "sampler heunpp2: expected s_tmin of at least 0"),
        ("dpm_2", {"s_tmax": math.nan}, "sampler dpm_2: expected s_tmax of at least 0, found nan"),
        ("dpm_2_ancestral", {"eta": -1.0}, "sampler dpm_2_ancestral: expected eta and s_noise of at least 0"),
        ("euler_ancestral_cfg_pp", {"s_noise": -1.0}, "sampler euler_ancestral_cfg_pp: .* s_noise -1.0"),
        ("res_multistep_ancestral", {"eta": -1.0}, "sampler res_multistep_ancestral: .* eta -1.0"),
        ("res_multistep_ancestral_cfg_pp", {"eta": -1.0}, "sampler res_multistep_ancestral_cfg_pp: .* eta -1.0"),
        ("lms", {"order": 0}, "sampler lms: expected order between 1 and 4, found 0"),
        ("ipndm", {"max_order": 5}, "sampler ipndm: expected max_order between 1 and 4, found 5"),
        ("ipndm_v", {"max_order": 5}, "sampler ipndm_v: expected max_order between 1 and 4, found 5"),
        ("deis", {"max_order": 0}, "sampler deis: expected max_order between 1 and 4, found 0"),
        ("dpm_fast", {"eta": -1.0}, "sampler dpm_fast: expected eta .* eta is 0 and s_noise 1 by default"),
        ("dpm_adaptive", {"eta": -1.0}, "sampler dpm_adaptive: expected eta"),
        ("dpm_adaptive", {"order": 4}, "order 2 or 3, found 4"),
        ("dpm_adaptive", {"atol": 0.0}, "atol and h_init above 0, found rtol 0.05, atol 0.0"),
        ("dpm_adaptive", {"icoeff": 0.0}, "not all 0"),
        ("dpm_adaptive", {"accept_safety": 2.0}, "at most 1, found 0.0, 1.0, 0.0 and 2.0"),
        ("restart", {"s_noise": -1.0}, "sampler restart: expected s_noise of at least 0"),
        ("restart", {"intervals": [[2.0, 0.1, 3, 1]]}, r"found \[2.0, 0.1, 3, 1\]"),
        ("restart", {"intervals": [[0.1, 2.0, 3]]}, r"found \[0.1, 2.0, 3\]"),
        ("restart", {"intervals": [[0.1, 2.0, 3.5, 1]]}, r"found \[0.1, 2.0, 3.5, 1\]"),
        ("restart", {"intervals": [[0.1, 2.0, 3, 0]]}, r"found \[0.1, 2.0, 3, 0\]"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        our_steps(name, schedule_karras(SCHEDULE, 2), **options)
