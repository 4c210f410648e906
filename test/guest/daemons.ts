/** Debian's hyperv-daemons in an initramfs, with the drivers of all integration services. */
import { debianInitramfs, debianProgram } from '../../scripts/debian-guest.mjs';

/** Runs the script of `initramfsWithDaemons`. */
export const APPEND = 'console=ttyAMA0 hyperstep.run=/bin/sh,/test.sh';

const MODULES = ['hv_balloon', 'hv_storvsc', 'sd_mod', 'dummy'];
const FOLDERS = ['usr', 'usr/sbin', 'usr/libexec', 'usr/libexec/hypervkvpd', 'sbin', 'var', 'var/lib', 'var/lib/hyperv', 'etc'];
const START = 'syslogd -O /tmp/log; hv_kvp_daemon; hv_vss_daemon; [ ! -e /dev/vmbus/hv_fcopy ] || hv_fcopy_daemon';

/** An initramfs for the kernel of `suite` whose guest starts the daemons and then runs a shell script, after which it says TEST-END. */
export function initramfsWithDaemons(script: string, suite = 'own'): Promise<Uint8Array> {
  const daemons = ['kvp', 'vss', 'fcopy'].flatMap((name) =>
    debianProgram('hyperv-daemons', `hv_${name}_daemon`, `usr/sbin/hv_${name}_daemon`),
  );
  const extra = [
    ...FOLDERS.map((path) => ({ path })),
    // All of them bring the same libraries.
    ...new Map(daemons.map((entry) => [entry.path, entry])).values(),
    { path: 'etc/os-release', data: 'NAME="Test Linux"\nVERSION_ID="42.1"\n' },
    { path: 'sbin/reboot', mode: 0o755, data: '#!/bin/sh\necho REBOOT-CALLED >/dev/console\nexec /bin/busybox reboot -f\n' },
    {
      path: 'usr/libexec/hypervkvpd/hv_set_ifconfig',
      mode: 0o755,
      data: '#!/bin/sh\nfor line in $(cat "$1"); do echo "IFCFG: $line"; done >/dev/console\n',
    },
    { path: 'test.sh', mode: 0o755, data: `#!/bin/sh\nPATH=/bin:/usr/sbin\n${START}\n${script}\necho TEST-END\n` },
  ];
  return debianInitramfs({ suite, modules: MODULES, extra });
}
