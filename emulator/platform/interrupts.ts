/**
 * What raises interrupts sees this. Declared here for the platform's own devices; `hyperv` declares its own narrower
 * interface, which the GIC also fulfils.
 */
export interface InterruptController {
  /** Level of SPI `intid` (32..). */
  setSpi(intid: number, level: boolean): void;
  /** Level of PPI `intid` (16..31) of VP `vp`. */
  setPpi(vp: number, intid: number, level: boolean): void;
  /** An edge: the interrupt becomes pending once. */
  pulsePpi(vp: number, intid: number): void;
  pulseSpi(intid: number): void;
}
