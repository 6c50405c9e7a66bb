package lab

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// VM is a stock Linux kernel in an emulator, with one network card: a peer
// whose IPsec is not ours and that this machine's kernel need not have. The
// guest lives in its initramfs: busybox and the programs named to NS.VM. It is
// emulated in software, so it is slow and may run anywhere.
type VM struct {
	// MAC is the guest's eth0.
	MAC  string
	proc *Proc
	conn net.Conn
	r    *bufio.Reader
	log  string // the guest's console
	// pre makes the programs win over busybox's applets of the same names,
	// which Debian's busybox shell looks for before PATH.
	pre string
}

// guestModules is what the guest loads, with what these depend on.
var guestModules = []string{
	"virtio_pci", "virtio_console", "virtio_net", "virtio-rng",
	"xfrm_user", "esp4", "esp6", "xfrm_interface", "dummy", "veth", "sit", "ip_tunnel", "tunnel6",
	"algif_aead", "drbg", "jitterentropy_rng", "gcm", "ghash-generic", "ghash-clmulni-intel", "seqiv", "echainiv", "authenc", "authencesn", "ctr", "cbc", "hmac", "aesni-intel",
	"sha512_generic", "sha256-ssse3", "sha512-ssse3", "chacha20poly1305", "chacha-x86_64", "poly1305-x86_64", "chacha_generic", "poly1305_generic",
}

// GuestUsable tells what is missing for VM, nil when nothing is.
func GuestUsable() error {
	for p, deb := range map[string]string{"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static"} {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("the program %s is missing (Debian: %s)", p, deb)
		}
	}
	dir, err := guestDir()
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, "vmlinuz"))
	}
	if err != nil {
		return fmt.Errorf("no kernel for a guest (make peers fetches one): %w", err)
	}
	return nil
}

// guestDir is where .ci/deps unpacks Debian's kernel: vmlinuz and modules.
func guestDir() (string, error) {
	c, err := os.UserCacheDir()
	return filepath.Join(c, "vrouter", "guest"), err
}

// guestInit is the guest's first process: it loads the modules, then runs what
// comes over the virtio console, one script a line.
const guestInit = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /sbin /usr/bin /usr/sbin
/bin/busybox --install -s /sbin
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/bin:/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for m in $(cat /modules/order); do insmod /modules/$m || echo "module $m: not loaded"; done
hostname guest
ip link set lo up
exec 3<>/dev/vport0p1
echo ready >&3
while read -r line <&3; do
  echo "$line" | base64 -d >/tmp/script
  sh /tmp/script >/tmp/out 2>&1 </dev/null 3<&-
  rc=$?
  echo "$(base64 -w 0 /tmp/out) $rc" >&3
done
poweroff -f
`

// VM boots a guest whose eth0 is plugged into a bridge of the namespace.
// programs are files of this machine to have in the guest, with the libraries
// they need; ip is always there. It returns when the guest takes commands.
func (n *NS) VM(name, bridge string, programs ...string) (*VM, error) {
	dir, err := guestDir()
	if err != nil {
		return nil, err
	}
	initrd := n.lab.Path(name + ".cpio")
	programs = append(programs, "ip")
	pre := ""
	for _, p := range programs {
		path, err := exec.LookPath(p)
		if err != nil {
			return nil, err
		}
		pre += filepath.Base(p) + "() { " + path + " \"$@\"; }\n"
	}
	if err := guestRoot(initrd, filepath.Join(dir, "modules"), programs); err != nil {
		return nil, fmt.Errorf("making the guest's root: %w", err)
	}
	tap := "t" + name
	if err := n.IP(fmt.Sprintf("tuntap add %[1]s mode tap\n link set %[1]s master %[2]s\n link set %[1]s up", tap, bridge)); err != nil {
		return nil, err
	}
	sock := n.lab.Path(name + ".sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: sock, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	v := &VM{MAC: "52:54:00:12:34:56", log: n.lab.Path(name + "-console"), pre: pre}
	v.proc, err = n.Start(name+"-qemu", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35,accel=tcg,usb=off,smbus=off,sata=off,hpet=off", "-cpu", "max", "-smp", "1", "-m", "512",
		"-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", initrd,
		"-append", "console=ttyS0 rdinit=/init panic=-1 mitigations=off random.trust_cpu=on cryptomgr.notests=1 quiet loglevel=4",
		"-serial", "file:"+v.log,
		"-device", "virtio-serial-pci", "-chardev", "socket,id=cmd,path="+sock, "-device", "virtserialport,chardev=cmd,nr=1",
		"-netdev", "tap,id=net,ifname="+tap+",script=no,downscript=no,vhost=off", "-device", "virtio-net-pci,netdev=net,romfile=,mac="+v.MAC,
		"-device", "virtio-rng-pci")
	if err != nil {
		return nil, err
	}
	_ = l.SetDeadline(time.Now().Add(20 * time.Second))
	if v.conn, err = l.Accept(); err != nil {
		return nil, fmt.Errorf("QEMU did not start: %w\n%s", err, v.proc.Output())
	}
	v.r = bufio.NewReader(v.conn)
	line, err := v.line(60 * time.Second)
	if err == nil && line != "ready" {
		err = fmt.Errorf("it said %q", line)
	}
	if err != nil {
		return nil, fmt.Errorf("the guest did not come up: %w\n%s\n%s", err, v.proc.Output(), v.Console())
	}
	return v, nil
}

func (v *VM) line(limit time.Duration) (string, error) {
	_ = v.conn.SetReadDeadline(time.Now().Add(limit))
	s, err := v.r.ReadString('\n')
	return strings.TrimSuffix(s, "\n"), err
}

// Run runs a shell script in the guest, at most so long, and gives its output.
// After a script that took too long the guest can no longer be used.
func (v *VM) Run(limit time.Duration, script string) (string, error) {
	if _, err := v.conn.Write([]byte(base64.StdEncoding.EncodeToString([]byte(v.pre+script)) + "\n")); err != nil {
		return "", err
	}
	line, err := v.line(limit)
	if err != nil {
		return "", fmt.Errorf("guest: %w\n%s", err, tailOf(v.Console(), 2000))
	}
	text, rc, _ := strings.Cut(line, " ")
	out, err := base64.StdEncoding.DecodeString(text)
	code, err2 := strconv.Atoi(rc)
	if err := errors.Join(err, err2); err != nil {
		return "", fmt.Errorf("guest: %w in %q", err, line)
	}
	if code != 0 {
		return string(out), fmt.Errorf("guest: status %d of %s\n%s", code, script, out)
	}
	return string(out), nil
}

// Console is what the guest's kernel has said.
func (v *VM) Console() string {
	b, _ := os.ReadFile(v.log)
	return string(b)
}

// Kill takes the guest's power.
func (v *VM) Kill() {
	v.conn.Close()
	v.proc.Kill()
}

func tailOf(s string, n int) string { return s[max(0, len(s)-n):] }
