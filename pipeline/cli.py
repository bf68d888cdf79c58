"""The command line: verbs, and what becomes of an error. No logic.

Each verb imports what it needs when it runs, so that help and errors in a request come at once.
"""

from __future__ import annotations

import json
import logging
import os
import re
import traceback
from typing import Any

import click

from pipeline.errors import PipelineError

INTERRUPTED_EXIT_STATUS = 130
DEBUG = "pipeline.debug"


class Verbs(click.Group):
    """A group of commands whose errors are a few lines and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; exits with 1 where the run failed, 2 where the request was wrong."""
        logging.getLogger("asyncio").addFilter(_is_news)
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, BrokenPipeError):
            raise
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED_EXIT_STATUS)
        except Exception as error:
            debug = ctx.meta.get(DEBUG, False)
            if debug:
                click.echo(traceback.format_exc(), err=True)
            if isinstance(error, PipelineError):
                click.echo(f"error: {error}", err=True)
                ctx.exit(error.exit_status)
            remedy = "" if debug else "; rerun with --debug for the traceback"
            click.echo(f"error: unexpected {type(error).__name__}: {_first_line(error)}{remedy}", err=True)
            ctx.exit(1)


def _is_news(record: logging.LogRecord) -> bool:
    """Not what a connection of Dask leaves behind that waited for something to send when its cluster ended."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, TimeoutError) and "never retrieved" in record.getMessage())


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or "no message"


def _remember_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[DEBUG] = value or ctx.meta.get(DEBUG, False)


def _debugging() -> bool:
    """Whether this command was given --debug: then the workers' own logs are shown too."""
    return bool(click.get_current_context().meta.get(DEBUG, False))


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from pipeline.versions import versions

        click.echo(f"zarrnorm {versions()['zarrnorm']}")
        ctx.exit()


def _strict_json(content: Any) -> str:
    return json.dumps(content, allow_nan=False)


def split_store(text: str) -> tuple[str, str | None]:
    """The store and the array of `STORE[:ARRAY]`; the colons of a URL, of a port and of a drive are part of the store.

    Examples
    --------
    >>> split_store("out/cells.zarr:layers/raw"), split_store("s3://bucket/cells.zarr")
    (('out/cells.zarr', 'layers/raw'), ('s3://bucket/cells.zarr', None))
    """
    store, colon, array = text.rpartition(":")
    drive = re.fullmatch("[A-Za-z]", store)
    port = re.fullmatch(r"[A-Za-z][\w+.-]*://[^/]*", store)
    if not colon or not store or array[:1] in ("/", "\\") or drive or port or os.path.exists(text):
        return text, None
    return store, array or None


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, callback=_remember_debug, help="Show the traceback of an error."
)
set_option = click.option(
    "--set",
    "overrides",
    metavar="PATH=VALUE",
    multiple=True,
    help="Replace a value of the configuration, such as normalize.0.minmax.range=[0,1]; may be repeated.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
config_argument = click.argument("config_path", metavar="CONFIG.yaml")


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
@debug_option
def main() -> None:
    """Normalize Zarr data of any size, and apply exactly the same transformation to new data.

    Relative paths, also those in a configuration, mean the current directory. Exit status: 0 done, 1 the run failed,
    2 the request was wrong, 130 interrupted.
    """


@main.command()
@config_argument
@set_option
@debug_option
def run(config_path: str, overrides: tuple[str, ...]) -> None:
    """Fit, then write the normalized store and the manifest."""
    from pipeline.arrays_config import ArraysConfig, load_run_config

    config = load_run_config(config_path, overrides)
    from pipeline.progress import open_reporter
    from pipeline.run import run_config
    from pipeline.several import run_arrays

    with open_reporter() as reporter:
        result: Any
        if isinstance(config, ArraysConfig):
            result = run_arrays(config, reporter, _debugging())
        else:
            result = run_config(config, reporter, _debugging())
    click.echo(f"store:    {result.output_store}")
    click.echo(f"manifest: {result.manifest_path}")
    click.echo(f"digest:   {result.manifest.digest}")


@main.command()
@config_argument
@set_option
@debug_option
def fit(config_path: str, overrides: tuple[str, ...]) -> None:
    """Fit, and write the manifest only."""
    from pipeline.arrays_config import ArraysConfig, load_run_config

    config = load_run_config(config_path, overrides)
    from pipeline.progress import open_reporter
    from pipeline.run import fit_config
    from pipeline.several import fit_arrays

    with open_reporter() as reporter:
        manifest: Any
        if isinstance(config, ArraysConfig):
            manifest = fit_arrays(config, reporter, _debugging())
        else:
            manifest = fit_config(config, reporter, _debugging())
    click.echo(f"manifest: {config.output.manifest}")
    click.echo(f"digest:   {manifest.digest}")


@main.command()
@click.argument("manifest_path", metavar="MANIFEST")
@click.option("--source", required=True, metavar="STORE[:ARRAY]", help="The new data.")
@click.option("--output", required=True, metavar="STORE", help="The store to write.")
@click.option("--overwrite", is_flag=True, help="Replace a store that is there already.")
@set_option
@debug_option
def apply(manifest_path: str, source: str, output: str, overwrite: bool, overrides: tuple[str, ...]) -> None:
    """Write new data, transformed by a manifest; --set takes the keys source, output, cluster and block_bytes."""
    from pipeline.config import ApplyConfig, check_apart, parse_config
    from pipeline.document import override

    store, array = split_store(source)
    document = {"source": {"store": store, "array": array}, "output": {"store": output, "overwrite": overwrite}}
    config = parse_config(override(document, overrides), ApplyConfig)
    check_apart({"MANIFEST": manifest_path, "output.store": config.output.store})
    from pipeline.inference import Manifest, load_manifest
    from pipeline.progress import open_reporter
    from pipeline.run import apply_manifest
    from pipeline.several import apply_collection

    manifest = load_manifest(manifest_path)
    with open_reporter() as reporter:
        if isinstance(manifest, Manifest):
            written = apply_manifest(manifest, config, reporter, _debugging())
        else:
            written = apply_collection(manifest, config, reporter, _debugging())
    click.echo(f"store:    {written}")


@main.command()
@config_argument
@set_option
@json_option
@debug_option
def plan(config_path: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show what a run would do: passes, blocks, tasks, bytes and memory. Reads no data."""
    from pipeline.arrays_config import ArraysConfig, load_run_config

    config = load_run_config(config_path, overrides)
    from pipeline.run import in_the_way, plan_config
    from pipeline.several import plan_arrays

    planned = plan_arrays(config) if isinstance(config, ArraysConfig) else plan_config(config)
    refused = [str(error) for error in in_the_way(config.output)]
    if as_json:
        click.echo(_strict_json({**planned.to_json(), "in_the_way": refused}))
        return
    from pipeline.tables import plan_tables, print_tables

    print_tables(plan_tables(planned))
    for error in refused:
        click.echo(f"note: a run would be refused: {error}", err=True)


@main.command()
@click.argument("manifest_path", metavar="MANIFEST")
@json_option
@debug_option
def show(manifest_path: str, as_json: bool) -> None:
    """Show the statistics and the chain of a manifest."""
    from pipeline.inference import Manifest, load_manifest

    manifest = load_manifest(manifest_path)
    if as_json:
        click.echo(_strict_json(manifest.to_json()))
        return
    from pipeline.tables import collection_tables, manifest_tables, print_tables

    print_tables(manifest_tables(manifest) if isinstance(manifest, Manifest) else collection_tables(manifest))


@main.command()
@click.argument("name", metavar="[NAME]", required=False)
@json_option
@debug_option
def steps(name: str | None, as_json: bool) -> None:
    """List the steps that a configuration can name, or show one of them: options, formula, inverse, reads, reference."""
    from pipeline.normalize.catalogue import describe, describe_all

    described = describe_all() if name is None else (describe(name),)
    if as_json:
        content = [each.to_json() for each in described]
        click.echo(_strict_json(content if name is None else content[0]))
        return
    from pipeline.tables import print_tables, step_lines, step_tables

    if name is None:
        click.echo("\n".join(step_lines(described)))
    else:
        print_tables(step_tables(described[0]))
