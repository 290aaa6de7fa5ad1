"""The reference of the HTTP interface as a page that loads nothing from elsewhere."""

import json
from html import escape
from typing import Any


def reference_page(schema: dict[str, Any]) -> str:
    """Return the OpenAPI description of the service as HTML."""
    sections = "\n".join(
        _operation(method, path, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/page.css"><title>niphash: HTTP interface</title></head>'
        '<body class="reference"><h1>niphash: HTTP interface</h1>'
        '<p>For programs: <a href="/openapi.json">openapi.json</a>. The page is at <a href="/">/</a>.</p>'
        f"{sections}</body></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code></td><td>{p['in']}</td>"
        f"<td>{escape(_kind(p['schema']))}</td><td>{escape(p.get('description', ''))}</td></tr>"
        for p in operation.get("parameters", ())
    )
    bodies = ", ".join(operation.get("requestBody", {}).get("content", {}))
    body = f"<p>Body: <code>{escape(bodies)}</code></p>" if bodies else ""
    table = f"<table>{rows}</table>" if rows else ""
    answers = ", ".join(operation.get("responses", {}))
    return (
        f"<section><h2><code>{method.upper()} {escape(path)}</code></h2>"
        f"<p>{escape(operation.get('description', ''))}</p>{table}{body}<p>Answers: {answers}</p></section>"
    )


def _kind(schema: dict[str, Any]) -> str:
    choices = schema.get("anyOf", [schema])
    named = [choice for choice in choices if choice.get("type") != "null"]
    return ", ".join(
        " | ".join(choice["enum"]) if "enum" in choice else str(choice.get("type", json.dumps(choice)))
        for choice in named
    )
