from typing_extensions import disjoint_base

@disjoint_base
class Awaited: ...

@disjoint_base
class Shared(Awaited): ...
