#!/usr/bin/env node
// Stands in for the desktop `code` executable, so that @vscode/test-electron and @vscode/test-cli run
// where no desktop build can be had. Understands what those two pass; ignores the rest.
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { runHostTests } from './host-tests.mjs';

const asPath = (v) => (v.startsWith('file:') ? fileURLToPath(v) : path.resolve(v));
const given = { dev: [], vsix: process.env.TESTBED_VSIX ? [process.env.TESTBED_VSIX] : [], tests: undefined, folder: undefined };
const args = process.argv.slice(2);
for (let i = 0; i < args.length; i++) {
  const [key, inline] = args[i].startsWith('--') ? args[i].split(/=(.*)/s) : [null];
  const value = () => inline ?? args[++i];
  if (key === '--version') { console.log('1.100.0\nshim\nx64'); process.exit(0); }
  else if (key === '--extensionDevelopmentPath') given.dev.push(asPath(value()));
  else if (key === '--extensionTestsPath') given.tests = asPath(value());
  else if (key === '--user-data-dir' || key === '--extensions-dir') value(); // always private here
  else if (key === null) given.folder = asPath(args[i]);
}
if (!given.tests || given.dev.length !== 1) {
  console.error('code-shim: needs --extensionTestsPath and one --extensionDevelopmentPath');
  process.exit(2);
}
process.exit(await runHostTests(given));
