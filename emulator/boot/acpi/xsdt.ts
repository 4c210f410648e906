/** Extended System Description Table: ACPI 6.4 §5.2.8. */
import { struct } from '../../base/struct.ts';
import { table, TableHeader } from './table.ts';

export const Xsdt = struct('Xsdt', { header: TableHeader });

export function xsdt(tables: number[]): Uint8Array {
  const entries = new Uint8Array(tables.length * 8);
  const view = new DataView(entries.buffer);
  tables.forEach((gpa, i) => {
    view.setBigUint64(i * 8, BigInt(gpa), true);
  });
  return table({ signature: 'XSDT', revision: 1 }, Xsdt, {}, entries);
}
