"""What every section of the manifest is built from."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# No segment may begin with a dot: that keeps `..` and hidden files out, and needs no escaping in SHA256SUMS.
PATH_PATTERN = r"^[A-Za-z0-9_+@][A-Za-z0-9._+@-]*(/[A-Za-z0-9_+@][A-Za-z0-9._+@-]*)*$"
RelativePath = Annotated[str, Field(pattern=PATH_PATTERN)]
Count = Annotated[int, Field(ge=0)]
Percent = Annotated[float, Field(ge=0, le=100)]


class Part(BaseModel):
    """A part of the manifest: read strictly, never changed."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)
