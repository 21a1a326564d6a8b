// Write built.json: the sha256 of all sources and of all that was built from them.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative, sep } from "node:path";

const here = import.meta.dirname;
const LEFT_OUT = new Set(["node_modules", "built.json"]);

function files(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((each) => {
    if (LEFT_OUT.has(each.name)) return [];
    const path = join(folder, each.name);
    return each.isDirectory() ? files(path) : [path];
  });
}

function digests(folder) {
  const found = files(folder).map((path) => [
    relative(folder, path).split(sep).join("/"),
    createHash("sha256").update(readFileSync(path)).digest("hex"),
  ]);
  return Object.fromEntries(found.sort());
}

const record = { sources: digests(here), outputs: digests(join(here, "..", "static")) };
writeFileSync(join(here, "built.json"), `${JSON.stringify(record, null, 2)}\n`);
