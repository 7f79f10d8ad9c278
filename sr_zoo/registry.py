"""Parts by name, so that a config.json or a recipe can say ``{"name": "residual", "width": 48}``."""

import difflib
import inspect
import types

__all__ = ["Registry", "suggestion"]

PLAIN = (bool, int, float, str, list, dict)  # what a config.json can say


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
        wanted = {p.name: p.annotation for p in allowed}
        for key, value in spec.items():
            if key not in wanted:
                raise ValueError(f"{self.kind} {name!r}: unknown argument {key!r}; it takes {', '.join(wanted) or 'none'}")
            _check_type(f"{self.kind} {name!r}: {key}", value, wanted[key])
        return self[name](*context, **spec)


def suggestion(name: str, known) -> str:
    """What to write instead of an unknown name."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"


def _check_type(what: str, value, annotation) -> None:
    kinds = annotation.__args__ if isinstance(annotation, types.UnionType) else (annotation,)
    # As in Python, an int is a good float; unlike there, a bool is no int.
    if (type(value) is int and float in kinds) or (isinstance(value, kinds) and (type(value) is not bool or bool in kinds)):
        return
    names = " or ".join(k.__name__ for k in kinds if k in PLAIN)
    raise ValueError(f"{what} is {value!r}, expected {names}")
