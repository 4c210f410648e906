// Runs inside the extension host of a real VS Code, with the real `vscode` API and our extension installed from its .vsix.
const assert = require('node:assert/strict');
const fs = require('node:fs');
const vscode = require('vscode');

/** Resolves with the next DAP event `name` of any of our sessions that satisfies `when`. */
const events = [];
const waiting = new Set();
vscode.debug.registerDebugAdapterTrackerFactory('hyperstep', {
  createDebugAdapterTracker: () => ({
    onDidSendMessage: (m) => {
      if (m.type !== 'event') return;
      events.push(m);
      for (const w of [...waiting]) w(m);
    },
  }),
});
const next = (name, when = () => true) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${name} event in 60 s; saw ${events.slice(-15).map((e) => e.event).join(' ')}`)), 60_000);
    const look = (m) => {
      if (m.event !== name || !when(m.body)) return;
      clearTimeout(timer);
      waiting.delete(look);
      resolve(m.body);
    };
    waiting.add(look);
  });

const embedded = () => ({
  type: 'hyperstep', request: 'launch', name: 'Embedded guest', kernel: process.env.HYPERSTEP_TEST_EMBEDDED, append: '', memory: 64,
});
const start = async (config) => assert.ok(await vscode.debug.startDebugging(vscode.workspace.workspaceFolders[0], config));
const session = () => vscode.debug.activeDebugSession;
const ask = (command, args = {}) => session().customRequest(command, args);
const stop = async () => {
  if (!session()) return;
  const gone = new Promise((resolve) => {
    const d = vscode.debug.onDidTerminateDebugSession(() => {
      d.dispose();
      resolve();
    });
  });
  await vscode.debug.stopDebugging();
  await gone;
};

exports.run = () =>
  new Promise((resolve, reject) => {
    const Mocha = require(process.env.TESTBED_MOCHA);
    const results = [];
    const mocha = new Mocha({
      ui: 'tdd', color: false, timeout: 90_000,
      reporter: function Reporter(runner) {
        runner.on('pass', (t) => results.push({ title: t.fullTitle(), ms: t.duration }));
        runner.on('fail', (t, e) => results.push({ title: t.fullTitle(), error: e.stack }));
      },
    });
    mocha.suite.emit('pre-require', globalThis, '', mocha);
    define();
    mocha.run((failures) => {
      fs.writeFileSync(process.env.TESTBED_RESULTS, JSON.stringify(results));
      if (failures) reject(new Error(`${failures} failed`));
      else resolve();
    });
  });

function define() {
  const { suite, test, teardown } = globalThis;
  suite('Hyperstep in VS Code', () => {
    teardown(stop);

    test('F5 configuration stops at HvCallPostMessage, says which call and from where', async () => {
      const stopped = next('stopped');
      await start({ ...embedded(), stopOnHypercalls: ['HvCallPostMessage'] });
      const body = await stopped;
      assert.match(`${body.description} ${body.text}`, /HvCallPostMessage/);
      const { threads } = await ask('threads');
      assert.equal(threads.length, 1);
      const { stackFrames } = await ask('stackTrace', { threadId: threads[0].id });
      assert.ok(stackFrames.length >= 3, JSON.stringify(stackFrames));
      assert.ok(stackFrames.some((f) => /main/.test(f.name)), JSON.stringify(stackFrames.map((f) => f.name)));
      const { scopes } = await ask('scopes', { frameId: stackFrames[0].id });
      for (const wanted of [/Core/, /System/, /SIMD/, /Hyper-V/]) assert.ok(scopes.some((s) => wanted.test(s.name)), JSON.stringify(scopes));
    });

    test('the four views have data at a stop', async () => {
      const stopped = next('stopped');
      await start({ ...embedded(), stopOnHypercalls: ['HvCallPostMessage'] });
      await stopped;
      const registers = await ask('hyperstep/vpRegisters', { vp: 0 });
      assert.ok(registers.registers.some((r) => r.name === 'HvRegisterVpIndex'));
      const features = await ask('hyperstep/features');
      assert.deepEqual(features.words.map((w) => w.field), ['features', 'priv_high', 'misc_features', 'hints']);
      const calls = await ask('hyperstep/hypercalls', { count: 20 });
      assert.ok(calls.calls.some((c) => c.name === 'HvCallGetVpRegisters'));
      assert.ok((await ask('hyperstep/vmbus')).state);
    });

    test('a function breakpoint by symbol is hit, and evaluate reads registers', async () => {
      vscode.debug.addBreakpoints([new vscode.FunctionBreakpoint('fib')]);
      try {
        const stopped = next('stopped', (b) => b.reason === 'function breakpoint' || b.reason === 'breakpoint');
        await start(embedded());
        await stopped;
        const { stackFrames } = await ask('stackTrace', { threadId: 1 });
        assert.match(stackFrames[0].name, /^fib/);
        const { result } = await ask('evaluate', { expression: '$pc == fib', context: 'watch', frameId: stackFrames[0].id });
        assert.match(result, /^(1|true)/);
      } finally {
        vscode.debug.removeBreakpoints(vscode.debug.breakpoints);
      }
    });

    test('a breakpoint on a line of a listing is there in the next session, and terminals do not pile up', async () => {
      const config = { ...embedded(), stopOnHypercalls: ['HvCallPostMessage'] };
      const terminals = () => vscode.window.terminals.filter((t) => t.name === `Serial: ${config.name}`).length;
      try {
        let stopped = next('stopped');
        await start(config);
        await stopped;
        const { stackFrames } = await ask('stackTrace', { threadId: 1 });
        const { source } = stackFrames.find((f) => f.name.startsWith('post+'));
        const uri = vscode.debug.asDebugSourceUri(source, session());
        // Line 2 is the function's first instruction; the function has been entered already, so only a new session gets there.
        vscode.debug.addBreakpoints([new vscode.SourceBreakpoint(new vscode.Location(uri, new vscode.Position(1, 0)))]);
        await stop();
        stopped = next('stopped');
        await start(config);
        await stopped;
        const [frame] = (await ask('stackTrace', { threadId: 1 })).stackFrames;
        assert.equal(frame.name, 'post');
        assert.equal(frame.line, 2);
        assert.equal(terminals(), 1);
      } finally {
        vscode.debug.removeBreakpoints(vscode.debug.breakpoints);
      }
    });

    test('the guest runs to its own end and the session ends with it', async () => {
      const terminated = next('terminated');
      await start(embedded());
      await terminated;
    });

    test('a launch.json that names no arm64 kernel is refused with one clear message', async () => {
      const bad = { ...embedded(), kernel: '/nonexistent/Image' };
      const failed = new Promise((resolve) => {
        const d = vscode.debug.registerDebugAdapterTrackerFactory('hyperstep', {
          createDebugAdapterTracker: () => ({
            onDidSendMessage: (m) => {
              if (m.type !== 'response' || m.command !== 'launch') return;
              d.dispose();
              resolve(m);
            },
          }),
        });
      });
      void vscode.debug.startDebugging(vscode.workspace.workspaceFolders[0], bad);
      const response = await failed;
      assert.equal(response.success, false);
      assert.match(JSON.stringify(response), /\/nonexistent\/Image/);
      await vscode.commands.executeCommand('workbench.action.closeQuickOpen');
    });
  });
}
