/** What remains of UEFI once the EFI stub has left it: system table, configuration tables, runtime services. */
import { alignUp } from '../../base/bits.ts';
import { guidBytes } from '../../base/guid.ts';
import type { PsciConduit } from '../acpi/fadt.ts';
import { runtimeServices, supportedServices } from './runtime-services.ts';
import { smbios } from './smbios.ts';
import { EFI_REVISION, EfiConfigurationTable, EfiRtProperties, EfiSystemTable, GUID, seal } from './tables.ts';

export interface EfiOptions {
  /** GPA of the runtime services code and data regions. */
  codeGpa: number;
  dataGpa: number;
  rsdp: number;
  seed: number;
  conduit: PsciConduit;
  /** False: nothing says that this is a Hyper-V guest. Default: true. */
  hypervisor?: boolean;
}

export interface EfiPiece {
  name: string;
  gpa: number;
  data: Uint8Array;
}

/** UCS-2 with terminator (UEFI 2.10 §2.3.1, CHAR16). */
const char16 = (s: string): Uint8Array =>
  Uint8Array.from(`${s}\0`, (c) => c.charCodeAt(0)).reduce(
    (out, c, i) => {
      out[2 * i] = c;
      return out;
    },
    new Uint8Array(2 * s.length + 2),
  );

/** Everything to place in the two runtime regions; the first piece is the system table. */
export function efiTables(options: EfiOptions): EfiPiece[] {
  const services = runtimeServices(options.codeGpa, options.conduit);
  let at = alignUp(options.dataGpa + EfiSystemTable.size, 64);
  const pieces: EfiPiece[] = [];
  const place = (name: string, make: Uint8Array | ((gpa: number) => Uint8Array)): bigint => {
    const gpa = at;
    const data = typeof make === 'function' ? make(gpa) : make;
    pieces.push({ name, gpa, data });
    at = alignUp(gpa + data.length, 64);
    return BigInt(gpa);
  };
  const firmwareVendor = place('firmware vendor', char16(options.hypervisor === false ? 'Hyperstep' : 'Microsoft'));
  const runtime = place('EFI runtime services', services.table);
  const properties = place(
    'EFI RT properties',
    EfiRtProperties.make({ version: 1, length: EfiRtProperties.size, supported: supportedServices() }),
  );
  const dmi = place('SMBIOS', (gpa) => smbios(gpa, options.seed, options.hypervisor));
  const list: [guid: string, table: bigint][] = [
    [GUID.acpi20, BigInt(options.rsdp)],
    [GUID.smbios3, dmi],
    [GUID.rtProperties, properties],
  ];
  const configurationTable = place(
    'EFI configuration tables',
    new Uint8Array(list.flatMap(([guid, table]) => [...EfiConfigurationTable.make({ guid: guidBytes(guid), table })])),
  );
  const system = EfiSystemTable.make({
    firmwareVendor,
    firmwareRevision: EFI_REVISION,
    runtimeServices: runtime,
    tableCount: BigInt(list.length),
    configurationTable,
  });
  return [
    { name: 'EFI system table', gpa: options.dataGpa, data: seal('IBI SYST', system) },
    ...pieces,
    { name: 'EFI runtime code', gpa: options.codeGpa, data: services.code },
  ];
}
