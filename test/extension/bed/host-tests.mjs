// Runs a test module inside the extension host of a real VS Code workbench.
//
// The desktop takes --extensionDevelopmentPath and --extensionTestsPath. The web workbench takes the
// same two through the `payload` query, and reports through two functions that it looks for on
// `window`: codeAutomationLog(type, args) and codeAutomationExit(code, logs).
import { format } from 'node:util';
import { startServer } from './server.mjs';
import { openWorkbench } from './workbench.mjs';

const NOISE = /^(Resolv|Creating a socket|Updating additional builtin|\[Service Worker\]|ChatSessionStore|.*ENOTFOUND|Error fetching|\s+at .*workbench\.js)/;

export async function runHostTests({ dev, vsix, tests, folder, env, settings, limitMs = Number(process.env.TESTBED_LIMIT_MS ?? 120_000) }) {
  const server = await startServer({ workspace: folder, vsix, env, settings });
  let wb; let timer;
  try {
    let done; const exit = new Promise((r) => { done = r; });
    wb = await openWorkbench(server.address([
      ...dev.map((d) => ['extensionDevelopmentPath', server.remoteUri(d)]),
      ['extensionTestsPath', server.remoteUri(tests)],
    ]), {
      wait: false,
      expose: {
        codeAutomationLog: (_type, args) => {
          const line = format(...args);
          if (process.env.TESTBED_VERBOSE || !NOISE.test(line)) console.log(line);
        },
        codeAutomationExit: (c) => done(c),
      },
    });
    const late = new Promise((_, no) => { timer = setTimeout(() => no(new Error(`extension tests did not end in ${limitMs} ms`)), limitMs); });
    return await Promise.race([exit, late]);
  } catch (e) {
    console.error(e.message);
    console.error(wb?.console.slice(-20).join('\n'));
    console.error(server.log().slice(-3000));
    return 1;
  } finally {
    clearTimeout(timer);
    await wb?.close();
    await server.stop();
  }
}
