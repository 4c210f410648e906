/** The VMBus devices of every machine, in the order they are offered: relids 1, 2, ... The SCSI controller and the PCI bus only with disks on them, the network card only where one is configured; Hyper-V sockets have a channel for each connection. */
import { Balloon } from './balloon.ts';
import { Fcopy } from './fcopy.ts';
import { Heartbeat } from './heartbeat.ts';
import { Keyboard } from './keyboard.ts';
import { Kvp } from './kvp.ts';
import { Mouse } from './mouse.ts';
import { Network } from './network.ts';
import { Pci } from './pci.ts';
import { Scsi } from './scsi.ts';
import { Shutdown } from './shutdown.ts';
import { Sockets } from './socket.ts';
import { Timesync } from './timesync.ts';
import { Video } from './video.ts';
import { Vss } from './vss.ts';
import type { DeviceChannel, DeviceEnvironment } from '../device.ts';

export const DEVICES = {
  heartbeat: (channel: DeviceChannel, environment: DeviceEnvironment) => new Heartbeat(channel, environment),
  shutdown: (channel: DeviceChannel, environment: DeviceEnvironment) => new Shutdown(channel, environment),
  timesync: (channel: DeviceChannel, environment: DeviceEnvironment) => new Timesync(channel, environment),
  keyboard: (channel: DeviceChannel) => new Keyboard(channel),
  scsi: (channel: DeviceChannel, environment: DeviceEnvironment) => new Scsi(channel, environment),
  mouse: (channel: DeviceChannel) => new Mouse(channel),
  video: (channel: DeviceChannel, environment: DeviceEnvironment) => new Video(channel, environment),
  kvp: (channel: DeviceChannel, environment: DeviceEnvironment) => new Kvp(channel, environment),
  vss: (channel: DeviceChannel, environment: DeviceEnvironment) => new Vss(channel, environment),
  fcopy: (channel: DeviceChannel, environment: DeviceEnvironment) => new Fcopy(channel, environment),
  balloon: (channel: DeviceChannel, environment: DeviceEnvironment) => new Balloon(channel, environment),
  socket: (channel: DeviceChannel, environment: DeviceEnvironment) => new Sockets(channel, environment),
  pci: (channel: DeviceChannel, environment: DeviceEnvironment) => new Pci(channel, environment),
  network: (channel: DeviceChannel, environment: DeviceEnvironment) => new Network(channel, environment),
};

export type Devices = { [N in keyof typeof DEVICES]: ReturnType<(typeof DEVICES)[N]> };
