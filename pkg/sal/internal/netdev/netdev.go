// Package netdev asks and tells the kernel about a network device by ioctl
// (netdevice(7)): what port drivers of kernel devices share.
package netdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
)

// Dev is a device by its name, in the network namespace that the calling
// thread had at Open. Methods may be called from any goroutine and thread.
type Dev struct {
	Name string
	fd   int
}

// Open gives a Dev; the device need not exist.
func Open(name string) (*Dev, error) {
	if name == "" || len(name) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("device name %q: %w", name, sal.ErrInvalid)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", name, err)
	}
	return &Dev{name, fd}, nil
}

// Close forgets the device.
func (d *Dev) Close() error { return unix.Close(d.fd) }

// ifreq is struct ifreq.
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data [24]byte
}

func (d *Dev) ioctl(op uintptr, r *ifreq) error {
	copy(r.name[:], d.Name)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), op, uintptr(unsafe.Pointer(r))); e != 0 {
		return d.wrap(e)
	}
	return nil
}

func (d *Dev) wrap(e unix.Errno) error {
	err := error(e)
	switch {
	case e == unix.ENODEV || e == unix.ENXIO:
		err = sal.ErrNotFound
	case e == unix.EINVAL || e == unix.ERANGE:
		err = sal.ErrInvalid
	case e == unix.EPERM || e == unix.EACCES:
		err = errors.New("not permitted: CAP_NET_ADMIN and CAP_NET_RAW are needed")
	}
	return fmt.Errorf("device %s: %w", d.Name, err)
}

var ne = binary.NativeEndian

// Index is the interface index.
func (d *Dev) Index() (int, error) {
	var r ifreq
	err := d.ioctl(unix.SIOCGIFINDEX, &r)
	return int(ne.Uint32(r.data[:])), err
}

// Flags are IFF_UP, IFF_RUNNING and so on.
func (d *Dev) Flags() (uint16, error) {
	var r ifreq
	err := d.ioctl(unix.SIOCGIFFLAGS, &r)
	return ne.Uint16(r.data[:]), err
}

// Running tells whether the device is up and has a carrier; false when it is
// gone.
func (d *Dev) Running() bool {
	f, err := d.Flags()
	return err == nil && f&unix.IFF_UP != 0 && f&unix.IFF_RUNNING != 0
}

// SetUp sets the administrative state.
func (d *Dev) SetUp(up bool) error {
	f, err := d.Flags()
	if err != nil {
		return err
	}
	want := f &^ unix.IFF_UP
	if up {
		want |= unix.IFF_UP
	}
	if want == f {
		return nil
	}
	var r ifreq
	ne.PutUint16(r.data[:], want)
	return d.ioctl(unix.SIOCSIFFLAGS, &r)
}

// MTU is the device's MTU in bytes.
func (d *Dev) MTU() (int, error) {
	var r ifreq
	err := d.ioctl(unix.SIOCGIFMTU, &r)
	return int(ne.Uint32(r.data[:])), err
}

// SetMTU sets the MTU if it is another.
func (d *Dev) SetMTU(n int) error {
	if now, err := d.MTU(); err != nil || now == n {
		return err
	}
	var r ifreq
	ne.PutUint32(r.data[:], uint32(n))
	if err := d.ioctl(unix.SIOCSIFMTU, &r); err != nil {
		return fmt.Errorf("MTU %d: %w", n, err)
	}
	return nil
}

// MAC is the device's link-layer address; ErrNotSupported when it is not an
// Ethernet device.
func (d *Dev) MAC() (m [6]byte, err error) {
	var r ifreq
	if err = d.ioctl(unix.SIOCGIFHWADDR, &r); err != nil {
		return m, err
	}
	if ne.Uint16(r.data[:]) != unix.ARPHRD_ETHER {
		return m, fmt.Errorf("device %s is not Ethernet: %w", d.Name, sal.ErrNotSupported)
	}
	copy(m[:], r.data[2:])
	return m, nil
}

// Speed in bit/s, 0 when the device does not say.
func (d *Dev) Speed() uint64 {
	const gset = 1 // ETHTOOL_GSET
	var cmd [44]byte
	ne.PutUint32(cmd[:], gset)
	var r struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(r.name[:], d.Name)
	r.data = unsafe.Pointer(&cmd)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r))); e != 0 {
		return 0
	}
	mbit := uint32(ne.Uint16(cmd[12:])) | uint32(ne.Uint16(cmd[28:]))<<16
	if mbit == 0 || mbit == 0xffff || mbit == 0xffffffff {
		return 0
	}
	return uint64(mbit) * 1e6
}

// FD is the socket behind the Dev, for further ioctls in its namespace.
func (d *Dev) FD() int { return d.fd }

// Namespace is the network namespace of the calling thread: a number that no other
// has at the time.
func Namespace() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return 0, fmt.Errorf("network namespace: %w", err)
	}
	return st.Ino, nil
}
