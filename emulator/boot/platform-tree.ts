/**
 * The device tree that describes the whole machine, for guests that are started without ACPI. Bindings: Linux
 * Documentation/devicetree/bindings (arm/cpus, arm/psci, interrupt-controller/arm,gic-v3, timer/arm,arch_timer, serial/pl011,
 * rtc/arm,pl031, bus/microsoft,vmbus).
 */
import {
  affinityOf,
  COM1,
  COM2,
  GICD_BY_TREE,
  GICR,
  MMIO_HIGH,
  MMIO_LOW,
  type PpiNumbers,
  RTC,
  UART_CLOCK,
} from '../platform/addresses.ts';
import { cell, cells64, type DtNode, dtString } from './device-tree.ts';

/** interrupts = <type number flags> of the GIC's binding. */
const SPI = 0;
const PRIVATE = 1;
const EDGE = 1;
const LEVEL = 4;

const PHANDLE = { gic: 1, clock: 2 } as const;

const join = (...parts: Uint8Array[]): Uint8Array => {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
};
const cells = (...v: number[]): Uint8Array => join(...v.map(cell));
const strings = (...s: string[]): Uint8Array => join(...s.map(dtString));
/** Two cells each, as the root says of addresses and sizes. */
const reg = (...v: number[]): Uint8Array => join(...v.map(cells64));
const flag = new Uint8Array(0);

const spi = (intid: number): Uint8Array => cells(SPI, intid - 32, LEVEL);
const at = (name: string, gpa: number): string => `${name}@${gpa.toString(16)}`;

const uart = (port: { gpa: number; size: number; intid: number }): DtNode => ({
  properties: {
    compatible: strings('arm,pl011', 'arm,primecell'),
    reg: reg(port.gpa, port.size),
    interrupts: spi(port.intid),
    clocks: cells(PHANDLE.clock, PHANDLE.clock),
    'clock-names': strings('uartclk', 'apb_pclk'),
  },
});

export interface PlatformTreeOptions {
  vpCount: number;
  ramSize: number;
  chosen: DtNode;
  ppi: PpiNumbers;
  /** There is VMBus. */
  hypervisor: boolean;
}

/** The tree of a machine; `chosen` gets its stdout-path here. */
export function platformTree({ vpCount, ramSize, chosen, ppi, hypervisor }: PlatformTreeOptions): DtNode {
  const console = at('serial', COM1.gpa);
  const cpus: DtNode = { properties: { '#address-cells': cell(1), '#size-cells': cell(0) }, children: {} };
  for (let vp = 0; vp < vpCount; vp++)
    (cpus.children as Record<string, DtNode>)[at('cpu', affinityOf(vp))] = {
      properties: {
        device_type: dtString('cpu'),
        compatible: dtString('arm,armv8'),
        reg: cell(affinityOf(vp)),
        'enable-method': dtString('psci'),
      },
    };
  return {
    properties: {
      '#address-cells': cell(2),
      '#size-cells': cell(2),
      model: dtString(hypervisor ? 'Hyper-V guest' : 'Virtual machine'),
      // The name Linux has for virtual machines that are nothing but their devices.
      compatible: dtString('linux,dummy-virt'),
      'interrupt-parent': cell(PHANDLE.gic),
      'dma-coherent': flag,
    },
    children: {
      aliases: { properties: { serial0: dtString(`/${console}`), serial1: dtString(`/${at('serial', COM2.gpa)}`) } },
      chosen: { ...chosen, properties: { ...chosen.properties, 'stdout-path': dtString(`/${console}`) } },
      'memory@0': { properties: { device_type: dtString('memory'), reg: reg(0, ramSize) } },
      cpus,
      // There is no EL2 for HVC to be kept from: both conduits work (platform/psci.ts).
      psci: { properties: { compatible: strings('arm,psci-1.0', 'arm,psci-0.2'), method: dtString('hvc') } },
      timer: {
        properties: {
          compatible: dtString('arm,armv8-timer'),
          // Secure (absent: the INTID that Arm's BSA has for it), physical, virtual, EL2's.
          interrupts: cells(
            ...[29, ppi.physicalTimer, ppi.virtualTimer, ppi.el2Timer].flatMap((intid) => [PRIVATE, intid - 16, LEVEL]),
          ),
          'always-on': flag,
        },
      },
      // Guests find out from the identification registers whether there is one (ID_AA64DFR0_EL1.PMUVer).
      pmu: {
        properties: { compatible: dtString('arm,armv8-pmuv3'), interrupts: cells(PRIVATE, ppi.pmu - 16, LEVEL) },
      },
      [at('interrupt-controller', GICD_BY_TREE.gpa)]: {
        properties: {
          compatible: dtString('arm,gic-v3'),
          '#interrupt-cells': cell(3),
          '#address-cells': cell(0),
          'interrupt-controller': flag,
          reg: reg(GICD_BY_TREE.gpa, GICD_BY_TREE.size, GICR.gpa, GICR.stride * vpCount),
          phandle: cell(PHANDLE.gic),
        },
      },
      clock: {
        properties: {
          compatible: dtString('fixed-clock'),
          '#clock-cells': cell(0),
          'clock-frequency': cell(UART_CLOCK),
          phandle: cell(PHANDLE.clock),
        },
      },
      [console]: uart(COM1),
      [at('serial', COM2.gpa)]: uart(COM2),
      [at('rtc', RTC.gpa)]: {
        properties: {
          compatible: strings('arm,pl031', 'arm,primecell'),
          reg: reg(RTC.gpa, RTC.size),
          interrupts: spi(RTC.intid),
          clocks: cell(PHANDLE.clock),
          'clock-names': dtString('apb_pclk'),
        },
      },
      ...(hypervisor && {
        bus: {
          properties: { compatible: dtString('simple-bus'), '#address-cells': cell(2), '#size-cells': cell(2), ranges: flag },
          children: {
            [at('vmbus', MMIO_LOW.gpa)]: {
              properties: {
                compatible: dtString('microsoft,vmbus'),
                '#address-cells': cell(2),
                '#size-cells': cell(2),
                // Windows that VMBus may hand to its devices, mapped one to one.
                ranges: reg(...[MMIO_LOW, MMIO_HIGH].flatMap((w) => [w.gpa, w.gpa, w.size])),
                interrupts: cells(PRIVATE, ppi.vmbus - 16, EDGE),
                'dma-coherent': flag,
              },
            },
          },
        },
      }),
    },
  };
}
