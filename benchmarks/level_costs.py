"""Cost of a level: parameters and FLOPs per token of nested models with 1 to 4 levels.

    python benchmarks/level_costs.py [--width 128] [--depth 4] [--chunk_size 4] [--context 4096]
    [--window 256]

Prints a Markdown table. The tokens keep their width; each level is twice as wide as the one below.
"""

from nextconcept import ModelConfig, NextConceptModel
from nextconcept.cli.scripts import run_script


def main(
    width: int = 128, depth: int = 4, chunk_size: int = 4, context: int = 4096, window: int = 256, horizon: int = 4
) -> None:
    """Print the table.

    Args:
        width: width of the tokens.
        depth: blocks per level.
        chunk_size: elements per concept.
        context: tokens that the FLOPs are counted for.
        window: sliding window of every level.
        horizon: steps of every plan.
    """
    print(
        f"tokens {width} wide, {depth} blocks per level, chunks of {chunk_size}, context {context}, window {window}\n"
    )
    print("| levels | widths | parameters | ratio | MFLOPs per token, forward | increase |")
    print("|---|---|---|---|---|---|")
    parameters_before = flops_before = None
    for levels in range(1, 5):
        config = ModelConfig(
            levels=levels,
            width=width * 2 ** (levels - 1),
            num_heads=4 * 2 ** (levels - 1),
            depth=depth,
            chunk_size=chunk_size,
            horizon=horizon,
            context_length=context,
            sliding_window=window,
        )
        model = NextConceptModel(config)
        parameters, flops = sum(p.numel() for p in model.parameters()), model.flops_per_token(context)
        ratio = f"{parameters / parameters_before:.2f}" if parameters_before else ""
        more = f"{(flops - flops_before) / 1e6:.2f}" if flops_before else ""
        print(
            f"| {levels} | {' / '.join(map(str, config.widths))} | {parameters / 1e6:.2f} M | {ratio} "
            f"| {flops / 1e6:.2f} | {more} |"
        )
        parameters_before, flops_before = parameters, flops


if __name__ == "__main__":
    run_script(main)
