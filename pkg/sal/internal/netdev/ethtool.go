package netdev

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ETHTOOL_… (linux/ethtool.h)
const (
	ethtoolGDrvInfo                           = 0x03
	ethtoolGFlags, ethtoolSFlags              = 0x25, 0x26
	ethtoolGChannels, ethtoolSChannels        = 0x3c, 0x3d
	flagRxVLAN                         uint32 = 1 << 8
)

// ethtool asks or tells the driver: cmd begins with the command's number.
func (d *Dev) ethtool(cmd []byte) error {
	var r struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(r.name[:], d.Name)
	r.data = unsafe.Pointer(&cmd[0])
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r))); e != 0 {
		return d.wrap(e)
	}
	return nil
}

// Driver is the name of the kernel's driver of the device, "veth" for one; ""
// when it does not say.
func (d *Dev) Driver() string {
	cmd := make([]byte, 196) // struct ethtool_drvinfo
	ne.PutUint32(cmd, ethtoolGDrvInfo)
	if d.ethtool(cmd) != nil {
		return ""
	}
	return unix.ByteSliceToString(cmd[4:36])
}

// Channels are a device's queues (ethtool -l).
type Channels struct{ Rx, Tx, Combined int }

// Receive is how many queues receive.
func (c Channels) Receive() int { return c.Rx + c.Combined }

func channels(b []byte) Channels {
	at := func(i int) int { return int(ne.Uint32(b[4*i:])) }
	return Channels{Rx: at(5), Tx: at(6), Combined: at(8)}
}

// Channels asks how many queues are in use.
func (d *Dev) Channels() (Channels, error) {
	cmd := make([]byte, 9*4) // struct ethtool_channels
	ne.PutUint32(cmd, ethtoolGChannels)
	err := d.ethtool(cmd)
	return channels(cmd), err
}

// SetChannels sets them.
func (d *Dev) SetChannels(c Channels) error {
	cmd := make([]byte, 9*4)
	ne.PutUint32(cmd, ethtoolGChannels)
	if err := d.ethtool(cmd); err != nil {
		return err
	}
	ne.PutUint32(cmd, ethtoolSChannels)
	ne.PutUint32(cmd[5*4:], uint32(c.Rx))
	ne.PutUint32(cmd[6*4:], uint32(c.Tx))
	ne.PutUint32(cmd[8*4:], uint32(c.Combined))
	return d.ethtool(cmd)
}

// TakesTags tells whether the device takes VLAN tags off the frames it receives.
func (d *Dev) TakesTags() bool {
	cmd := make([]byte, 8)
	ne.PutUint32(cmd, ethtoolGFlags)
	return d.ethtool(cmd) == nil && ne.Uint32(cmd[4:])&flagRxVLAN != 0
}

// TakeTags has the device take tags off, or leave them where they are.
func (d *Dev) TakeTags(on bool) error {
	cmd := make([]byte, 8)
	ne.PutUint32(cmd, ethtoolGFlags)
	if err := d.ethtool(cmd); err != nil {
		return err
	}
	f := ne.Uint32(cmd[4:]) &^ flagRxVLAN
	if on {
		f |= flagRxVLAN
	}
	ne.PutUint32(cmd, ethtoolSFlags)
	ne.PutUint32(cmd[4:], f)
	return d.ethtool(cmd)
}

// Listener has a device receive more than what is for its own address, for as
// long as it is open: it is the process's, so it ends with it.
type Listener int

// Listen receives all multicast, and with promisc everything.
func Listen(index int, promisc bool) (Listener, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("packet socket (CAP_NET_RAW is needed): %w", err)
	}
	types := []uint16{unix.PACKET_MR_ALLMULTI}
	if promisc {
		types = append(types, unix.PACKET_MR_PROMISC)
	}
	for _, t := range types {
		if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(index), Type: t}); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("opening the device's address filter: %w", err)
		}
	}
	return Listener(fd), nil
}

// Close stops it.
func (l Listener) Close() {
	if l >= 0 {
		unix.Close(int(l))
	}
}
