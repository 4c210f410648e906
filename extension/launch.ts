import * as fs from 'node:fs/promises';
import * as path from 'node:path';
import * as vscode from 'vscode';
import { TYPE } from './session-client.ts';

/** Path settings of launch.json that may be relative to the workspace folder. */
const PATHS = ['kernel', 'initrd', 'consoleLog'] as const;
/** The same in each of `disks`. */
const DISK_PATHS = ['path', 'writeTo'] as const;
/** And in `network`. */
const NETWORK_PATHS = ['capture'] as const;

/** And in `sockets`. */
const SOCKETS_PATHS = ['folder'] as const;

/**
 * Fills in what launch.json leaves out and makes paths absolute. What the values mean is checked in one place, the adapter;
 * here only what an editor can help with: no configuration at all, no kernel.
 */
class ConfigurationProvider implements vscode.DebugConfigurationProvider {
  async resolveDebugConfiguration(
    _folder: vscode.WorkspaceFolder | undefined,
    config: vscode.DebugConfiguration,
  ): Promise<vscode.DebugConfiguration | undefined | null> {
    // F5 without a launch.json: ask for a kernel.
    if (!config.type && !config.request && !config.name) {
      const kernel = await pickKernel();
      if (!kernel) return undefined;
      return {
        type: TYPE,
        request: 'launch',
        name: 'Kernel as a Hyper-V guest',
        kernel,
        stopOnHypercalls: ['HvCallPostMessage'],
      };
    }
    if (config.kernel) return config;
    const choice = await vscode.window.showErrorMessage(
      `The configuration "${config.name}" names no "kernel": the arm64 Image to boot.`,
      { modal: true },
      'Choose a File...',
      'Open launch.json',
    );
    if (choice === 'Choose a File...') {
      const kernel = await pickKernel();
      return kernel ? { ...config, kernel } : undefined;
    }
    return choice ? null : undefined;
  }

  resolveDebugConfigurationWithSubstitutedVariables(
    folder: vscode.WorkspaceFolder | undefined,
    config: vscode.DebugConfiguration,
  ): vscode.DebugConfiguration {
    const base = (folder ?? vscode.workspace.workspaceFolders?.[0])?.uri.fsPath;
    const absolute = (holder: Record<string, unknown>, keys: readonly string[]): void => {
      for (const key of keys) {
        const value = holder[key];
        if (typeof value === 'string' && value && base && !path.isAbsolute(value)) holder[key] = path.join(base, value);
      }
    };
    absolute(config, PATHS);
    if (Array.isArray(config.disks))
      for (const disk of config.disks)
        if (typeof disk === 'object' && disk !== null) absolute(disk as Record<string, unknown>, DISK_PATHS);
    if (typeof config.network === 'object' && config.network !== null) absolute(config.network, NETWORK_PATHS);
    if (typeof config.sockets === 'object' && config.sockets !== null) absolute(config.sockets, SOCKETS_PATHS);
    // A kernel tree that is open has the sources and, built, the debug information.
    if (base) {
      config.sourceMap ??= { '': base };
      config.symbols ??= [base];
    }
    const { sourceMap, symbols } = config as { sourceMap?: unknown; symbols?: unknown };
    if (typeof sourceMap === 'object' && sourceMap !== null)
      absolute(sourceMap as Record<string, unknown>, Object.keys(sourceMap));
    if (Array.isArray(symbols))
      config.symbols = symbols.map((s: unknown) => (typeof s === 'string' && base ? path.resolve(base, s) : s));
    return config;
  }
}

export async function pickKernel(): Promise<string | undefined> {
  const [uri] =
    (await vscode.window.showOpenDialog({ title: 'The arm64 kernel to boot (Image, vmlinuz or ELF)', openLabel: 'Boot' })) ?? [];
  return uri?.fsPath;
}

/** Kernels that lie where a build or a package leaves them: offered by "Add Configuration...". */
async function dynamicConfigurations(folder: vscode.WorkspaceFolder | undefined): Promise<vscode.DebugConfiguration[]> {
  if (!folder) return [];
  const found: vscode.DebugConfiguration[] = [];
  for (const relative of ['arch/arm64/boot/Image', 'Image', 'vmlinuz']) {
    const there = await fs.stat(path.join(folder.uri.fsPath, relative)).then(
      (s) => s.isFile(),
      () => false,
    );
    if (there)
      found.push({
        type: TYPE,
        request: 'launch',
        name: `Boot ${relative} as a Hyper-V guest`,
        kernel: `\${workspaceFolder}/${relative}`,
        append: 'console=ttyAMA0',
      });
  }
  return found;
}

export function registerLaunch(context: vscode.ExtensionContext): vscode.Disposable {
  return vscode.Disposable.from(
    vscode.debug.registerDebugConfigurationProvider(TYPE, new ConfigurationProvider()),
    vscode.debug.registerDebugConfigurationProvider(
      TYPE,
      { provideDebugConfigurations: dynamicConfigurations },
      vscode.DebugConfigurationProviderTriggerKind.Dynamic,
    ),
    // The adapter is a process of its own, run by VS Code's Node: a busy guest never stalls the editor.
    vscode.debug.registerDebugAdapterDescriptorFactory(TYPE, {
      createDebugAdapterDescriptor: () =>
        new vscode.DebugAdapterExecutable(process.execPath, [context.asAbsolutePath('dist/debug-adapter.mjs')], {
          env: { ELECTRON_RUN_AS_NODE: '1' },
        }),
    }),
  );
}
