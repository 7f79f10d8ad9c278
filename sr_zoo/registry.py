"""Parts by name, so that a config.json or a recipe can say ``{"name": "residual", "width": 48}``."""

import difflib
import inspect

__all__ = ["Registry", "suggestion"]


class Registry(dict):
    """Name → class. ``registry.build({"name": …, **arguments}, *context)`` makes the part."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def register(self, name: str):
        def enter(part):
            self[name] = part
            return part

        return enter

    def build(self, spec: str | dict, *context):
        """The part that ``spec`` names, made with its arguments after ``context``.

        Raises:
            ValueError: an unknown name, an unknown argument or one of the wrong type.
        """
        spec = {"name": spec} if isinstance(spec, str) else dict(spec)
        name = spec.pop("name", None)
        if name not in self:
            raise ValueError(f"{self.kind}: unknown name {name!r}; {suggestion(str(name), self)}")
        allowed = list(inspect.signature(self[name]).parameters.values())[len(context) :]
        defaults = {p.name: p.default for p in allowed}
        for key, value in spec.items():
            if key not in defaults:
                raise ValueError(f"{self.kind} {name!r}: unknown argument {key!r}; it takes {', '.join(defaults) or 'none'}")
            _check_type(f"{self.kind} {name!r}: {key}", value, defaults[key])
        return self[name](*context, **spec)


def suggestion(name: str, known) -> str:
    """What to write instead of an unknown name."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"


def _check_type(what: str, value, default) -> None:
    if default is None or default is inspect.Parameter.empty:
        return
    wanted = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, wanted) or isinstance(value, bool) != isinstance(default, bool):
        raise ValueError(f"{what} is {value!r}, expected {type(default).__name__}")
