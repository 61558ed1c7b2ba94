"""`experiments=<folder>`: the config group whose options are the folders of experiments/, each with a config.yaml.

`experiments://DIRECTORY` serves DIRECTORY/experiments/*/config.yaml; `experiments://FILE` serves that one file under
whatever name is asked for.
"""

from pathlib import Path
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import OmegaConf

GROUP = "experiments"


class ExperimentsSource(ConfigSource):
    """Serves experiments/<name>/config.yaml below a root as option <name> of the group `experiments`."""

    @staticmethod
    def scheme() -> str:
        return "experiments"

    def load_config(self, config_path: str) -> ConfigResult:
        path = self._file(config_path)
        if path is None or not path.is_file():
            raise ConfigLoadError(f"Config not found : {config_path}")
        text = path.read_text(encoding="utf-8")
        config = OmegaConf.create(text) or OmegaConf.create({})
        plugins = OmegaConf.select(config, "plugins")
        if plugins is not None:  # plugins.py beside the config is found from any working directory
            beside = [path.parent / plugin for plugin in plugins]
            config.plugins = [
                str(file.resolve()) if file.is_file() else plugin for file, plugin in zip(beside, plugins, strict=True)
            ]
        _own_benchmark(config)
        header = self._get_header_dict(text[:512])
        header["package"] = header.get("package") or "_global_"
        return ConfigResult(config=config, path=f"{self.scheme()}://{self.path}", provider=self.provider, header=header)

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path == "" or (config_path == GROUP and (self._is_file or self._folder().is_dir()))

    def is_config(self, config_path: str) -> bool:
        path = self._file(config_path)
        return path is not None and path.is_file()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if config_path == "":
            return [GROUP] if results_filter != ObjectType.CONFIG and self.is_group(GROUP) else []
        if config_path != GROUP or results_filter == ObjectType.GROUP:
            return []
        if self._is_file:
            return [Path(self.path).parent.name]
        return sorted(path.parent.name for path in self._folder().glob("*/config.yaml"))

    @property
    def _is_file(self) -> bool:
        return Path(self.path).is_file()

    def _folder(self) -> Path:
        return Path(self.path) / GROUP

    def _file(self, config_path: str) -> Path | None:
        group, _, name = config_path.partition("/")
        if self._is_file:
            return Path(self.path) if group == GROUP and name else None
        return self._folder() / name.removesuffix(".yaml") / "config.yaml" if group == GROUP and name else None


def _own_benchmark(config: Any) -> None:
    """Make `metadata.benchmark` of an experiment replace the chosen benchmark instead of being merged into it.

    A list becomes `benchmarks`; a mapping gets every field that it does not name at its default.
    """
    from evsys_hydra.sweep.hydra_setup import config_directory

    given = OmegaConf.select(config, "metadata.benchmark")
    if OmegaConf.is_list(given):
        config.benchmarks = given
        del config.metadata["benchmark"]
    elif OmegaConf.is_dict(given):
        blank = OmegaConf.load(Path(config_directory()) / "benchmark" / "blank.yaml")
        config.metadata.benchmark = OmegaConf.merge(blank, given)
