"""Print the JSON schema of what the page gets; `make web` turns it into the TypeScript types.

python scripts/page_schema.py > web/schema.json
"""

import json
from typing import Any

from hooke.viewer.schema import Page


def without_titles(schema: Any) -> Any:
    """Fields need no type of their own; only the models do, and one that is referred to is said at its own place."""
    if isinstance(schema, dict) and "$ref" in schema:
        return {"$ref": schema["$ref"]}
    if isinstance(schema, list):
        return [without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: without_titles(part) for name, part in value.items()} if key in ("properties", "$defs")
        else without_titles(value)
        for key, value in schema.items()
        if key != "title" or not isinstance(value, str)
    }  # fmt: skip


def schema_text() -> str:
    schema = without_titles(Page.model_json_schema(mode="serialization")) | {"title": "Page"}
    return json.dumps(schema, indent=1) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
