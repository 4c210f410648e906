import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { before, test } from 'node:test';
import { runTests } from '@vscode/test-electron';
import { debianGuest } from '../../scripts/debian-guest.mjs';
import { startServer } from './bed/server.mjs';
import { openWorkbench } from './bed/workbench.mjs';

const HERE = path.dirname(new URL(import.meta.url).pathname);
const ROOT = path.resolve(HERE, '../..');
const VSIX = path.join(ROOT, 'dist/hyperstep.vsix');
const require = createRequire(import.meta.url);
/** Where screenshots go; `HYPERSTEP_SCREENSHOTS=docs` renews the one in the README. */
const SHOTS = path.resolve(ROOT, process.env.HYPERSTEP_SCREENSHOTS ?? 'dist/screenshots');
const env = { HYPERSTEP_TEST_EMBEDDED: path.join(ROOT, 'test/guests/embedded/guest.elf') };

before(() => {
  execFileSync('npm', ['run', '--silent', 'package'], { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  fs.mkdirSync(SHOTS, { recursive: true });
});

test('the package holds all it needs and stays small', () => {
  assert.ok(fs.statSync(VSIX).size < 3 << 20, `${fs.statSync(VSIX).size} bytes`);
});

test('inside the extension host of a real VS Code, from the installed .vsix', { timeout: 400_000 }, async (t) => {
  const results = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-host-')), 'results.json');
  let failure: unknown;
  await runTests({
    // Unset where a desktop build can be downloaded: then @vscode/test-electron fetches one.
    ...(process.env.HYPERSTEP_DOWNLOAD_VSCODE
      ? {}
      : { vscodeExecutablePath: process.env.VSCODE_TEST_EXECUTABLE ?? path.join(HERE, 'bed/code-shim.mjs') }),
    extensionDevelopmentPath: path.join(HERE, 'driver'),
    extensionTestsPath: path.join(HERE, 'host/index.cjs'),
    launchArgs: [path.join(HERE, 'workspace'), ...(process.env.HYPERSTEP_DOWNLOAD_VSCODE ? ['--install-extension', VSIX] : [])],
    extensionTestsEnv: {
      ...env,
      TESTBED_VSIX: VSIX,
      TESTBED_LIMIT_MS: '380000',
      TESTBED_MOCHA: require.resolve('mocha'),
      TESTBED_RESULTS: results,
    },
  }).catch((error: unknown) => {
    failure = error;
  });
  if (!fs.existsSync(results)) throw failure ?? new Error('the tests left no results');
  for (const r of JSON.parse(fs.readFileSync(results, 'utf8')) as { title: string; error?: string }[])
    await t.test(r.title, () => {
      if (r.error) throw new Error(r.error);
    });
  assert.equal(failure, undefined);
});

test("F5 on Debian's kernel: stop at HvCallPostMessage, the views, console, run to power-off", {
  timeout: 300_000,
}, async () => {
  const guest = await debianGuest();
  const server = await startServer({
    vsix: [VSIX],
    workspace: path.join(HERE, 'workspace'),
    env: { ...env, HYPERSTEP_TEST_KERNEL: guest.kernel, HYPERSTEP_TEST_INITRD: guest.initrd },
  });
  const wb = await openWorkbench(server.address(), { viewport: { width: 1680, height: 1050 } });
  const page = wb.page;
  try {
    await page.keyboard.press('Control+Shift+D');
    await page.locator('.start-debug-action-item', { hasText: 'Debian as a Hyper-V guest' }).waitFor({ timeout: 60_000 });
    // Room for the call stack: lists draw only the rows that are seen.
    await page.locator('.pane-header', { hasText: 'Watch' }).click();
    await wb.startDebugging();
    // The call stack names the function that makes the call.
    await page.locator('.debug-call-stack .monaco-list-row', { hasText: 'vmbus' }).first().waitFor({ timeout: 120_000 });
    const stack = (await wb.callStack()).join('\n');
    assert.match(stack, /vmbus_post_msg/);
    assert.match(stack, /hv_post_message/);

    assert.match((await wb.tree('VP Registers')).join('\n'), /HvRegisterHypervisorVersion/);
    assert.match((await wb.tree('ms_hyperv Features')).join('\n'), /priv_high/);
    assert.match((await wb.tree('VMBus Channels')).join('\n'), /Connection/);
    const calls = (await wb.tree('Hypercalls')).map((text: string) => /^#(\d+) (\w+)/.exec(text)?.slice(1) ?? [text]);
    assert.ok(
      calls.some(([, name]: string[]) => name.startsWith('HvCallGetVpRegisters')),
      JSON.stringify(calls),
    );
    assert.ok(Number(calls[0][0]) > Number(calls[1][0]), `the newest call comes first: ${JSON.stringify(calls)}`);
    await page.locator('.terminal-wrapper.active .xterm-screen').waitFor();
    assert.match((await wb.terminalText()).join('\n'), /Linux|Hyper-V|\[ +\d/);
    await wb.screenshot(path.join(SHOTS, 'screenshot.png'));

    // The guest's own side: what its kernel runs and has said, and the code of it.
    for (const other of [
      'Variables',
      'VP Registers',
      'ms_hyperv Features',
      'VMBus Channels',
      'Hypercalls',
      'Breakpoints',
      'Call Stack',
    ])
      await page
        .locator('.pane-header[aria-expanded="true"]', { hasText: other })
        .click({ timeout: 3000 })
        .catch(() => {});
    assert.deepEqual(
      (await wb.tree('Linux')).map((text: string) => text.trim()),
      ['Tasks', 'Kernel Log', 'Modules', 'Mounts', 'Interrupts'],
    );
    const linux = page.locator('.pane').filter({ has: page.locator('.pane-header', { hasText: 'Linux' }) });
    const inLinux = (text: string) => linux.locator('.monaco-list-row', { hasText: text }).first();
    await wb.openRow(inLinux('Tasks'));
    await wb.openRow(inLinux('Kernel threads'));
    await wb.openRow(inLinux('2 kthreadd'));
    await inLinux('__switch_to+0x').click();
    await page.locator('.tab', { hasText: '__switch_to' }).waitFor();
    await wb.screenshot(path.join(SHOTS, 'linux-tasks.png'));
    await inLinux('Tasks').click();
    await wb.openRow(inLinux('Kernel Log'));
    await inLinux('Run /init as init process').click();
    await page.locator('.tab', { hasText: 'run_init_process' }).waitFor();
    await wb.screenshot(path.join(SHOTS, 'linux-log.png'));
    await linux.locator('.pane-header').click();
    await page.locator('.pane-header', { hasText: 'Call Stack' }).click();

    await wb.evaluate('hypercalls');
    await page.locator('.repl .monaco-list-row', { hasText: 'HvCallSetVpRegisters' }).first().waitFor();

    // One stop per message, and then the guest's own end, with which the session ends.
    const ended = page.locator('.repl .monaco-list-row', { hasText: 'The guest powered off after' });
    const stopped = page.locator('.debug-call-stack .monaco-list-row').first();
    let channels: string[] = [];
    for (let i = 0; i < 40 && !(await ended.count()); i++) {
      await stopped.waitFor();
      // As soon as a channel is open, both its halves: the host's, and what the guest's driver holds.
      if (channels.length === 0 && /heartbeat\s*open/.test((await wb.tree('VMBus Channels')).join('\n'))) {
        // Lists draw only the rows that there is room for.
        const callStack = page.locator('.pane-header', { hasText: 'Call Stack' });
        await callStack.click();
        const pane = page.locator('.pane').filter({ has: page.locator('.pane-header', { hasText: 'VMBus Channels' }) });
        const row = pane.locator('.monaco-list-row', { hasText: 'heartbeat' }).first();
        await wb.openRow(row);
        await pane.locator('.monaco-list-row', { hasText: 'Ring to the host' }).waitFor();
        channels = await wb.tree('VMBus Channels');
        await wb.openRow(pane.locator('.monaco-list-row', { hasText: 'vmbus_channel' }).first());
        await pane.locator('.monaco-list-row', { hasText: 'CHANNEL_OPENED_STATE' }).waitFor();
        await wb.screenshot(path.join(SHOTS, 'vmbus-channels.png'));
        await row.click({ button: 'right' });
        await page.locator('.context-view .action-label', { hasText: 'Take the Device Away' }).waitFor();
        await page.keyboard.press('Escape');
        await callStack.click();
        await stopped.waitFor();
      }
      await page.keyboard.press('F5');
      await stopped.waitFor({ state: 'hidden', timeout: 1500 }).catch(() => {});
      await stopped.or(ended).first().waitFor({ timeout: 60_000 });
    }
    await ended.waitFor();
    assert.match(
      channels.join('\n'),
      /heartbeat\s*open, VP 0, rings \d+ % \/ \d+ %[\s\S]*Guest\s*vmbus_channel[\s\S]*Ring to the host/,
    );
    await wb.command('Terminal: Focus Terminal');
    await page.locator('.terminal-wrapper.active .xterm-screen').waitFor();
    assert.match((await wb.terminalText()).join('\n'), /reboot: Power down[\s\S]*The guest has ended/);
  } catch (error) {
    await wb.screenshot(path.join(SHOTS, 'failed.png'));
    // In the message itself: of a run elsewhere, that is all there is to read.
    const seen = await wb.describe();
    throw new Error(
      `${(error as Error).message}\nThe workbench: ${seen}\n${wb.console.slice(-15).join('\n')}\n${server.log().slice(-2000)}`,
      {
        cause: error,
      },
    );
  } finally {
    await wb.close();
    await server.stop();
  }
});
