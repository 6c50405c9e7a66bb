package e2e

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
)

// charon is a strongSwan IKE daemon with its ESP in user space
// (kernel-libipsec), in a namespace.
type charon struct {
	proc *lab.Proc
	dir  string
}

const charonPath = "/usr/lib/ipsec/charon"

// startCharon runs one in a mount namespace of its own, because the place of
// its process id file is compiled in.
func startCharon(t *testing.T, b *bed, n *lab.NS, name, local, remote, localTS, remoteTS, proposal string) *charon {
	t.Helper()
	c := &charon{dir: b.Lab.Path(name)}
	if err := os.MkdirAll(filepath.Join(c.dir, "swanctl"), 0o700); err != nil {
		t.Fatal(err)
	}
	// chd = 4 logs the keys of the SAs: what this test is here for.
	conf := fmt.Sprintf(`charon {
  load_modular = no
  load = random nonce aes sha1 sha2 hmac kdf gcm ctr gmp openssl drbg pem pkcs1 pkcs8 pubkey x509 socket-default kernel-libipsec kernel-netlink updown vici
  install_routes = yes
  threads = 32
  plugins {
    vici { socket = unix://%[1]s/vici.sock }
    kernel-libipsec { allow_peer_ts = yes }
  }
  filelog { main { path = %[1]s/log
      flush_line = yes
      default = 1
      chd = 4
  } }
}
swanctl { load = pem pkcs1 pkcs8 x509 openssl }
`, c.dir)
	swan := fmt.Sprintf(`connections { lab {
  version = 2
  local_addrs = %s
  remote_addrs = %s
  proposals = aes128-sha256-modp2048
  encap = yes
  rekey_time = 0
  dpd_delay = 0
  mobike = no
  local { auth = psk }
  remote { auth = psk }
  children { net {
    local_ts = %s
    remote_ts = %s
    esp_proposals = %s
    rekey_time = 0
    mode = tunnel
  } }
} }
secrets { ike-1 { secret = "only for this test" } }
`, local, remote, localTS, remoteTS, proposal)
	for file, text := range map[string]string{"strongswan.conf": conf, "swanctl/swanctl.conf": swan} {
		if err := os.WriteFile(filepath.Join(c.dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if c.proc, err = n.Start(name+"-charon", "unshare", "-m", "--propagation", "slave", "sh", "-c",
		"mount -t tmpfs tmpfs /run && STRONGSWAN_CONF="+c.dir+"/strongswan.conf exec "+charonPath); err != nil {
		t.Fatal(err)
	}
	if err := lab.Until(10*time.Second, name+" listens", func() bool { _, err := os.Stat(c.dir + "/vici.sock"); return err == nil }); err != nil {
		t.Fatalf("%v\n%s", err, c.proc.Output())
	}
	if out, err := c.swanctl("--load-all", "--noprompt", "--file", c.dir+"/swanctl/swanctl.conf"); err != nil {
		t.Fatalf("swanctl: %v\n%s", err, out)
	}
	return c
}

func (c *charon) swanctl(args ...string) (string, error) {
	cmd := exec.Command("swanctl", append(args, "--uri", "unix://"+c.dir+"/vici.sock")...)
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+c.dir+"/strongswan.conf", "SWANCTL_DIR="+c.dir+"/swanctl")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c *charon) log() string {
	b, _ := os.ReadFile(c.dir + "/log")
	return string(b)
}

// childKeys is what an initiator logs of its CHILD_SA. "out" is from it to the
// responder.
type childKeys struct {
	encIn, encOut, intIn, intOut string
	spiIn, spiOut                uint32
}

var (
	logKey  = regexp.MustCompile(`(encryption|integrity) (initiator|responder) key => \d+ bytes`)
	logHex  = regexp.MustCompile(`\] +\d+: ((?:[0-9A-F]{2} )+)`)
	logSPI  = regexp.MustCompile(`SPI 0x([0-9a-f]+), src`)
	logAdds = regexp.MustCompile(`adding (inbound|outbound) ESP SA`)
)

func (c *charon) keys() (k childKeys, err error) {
	var into *string
	var spi *uint32
	for _, line := range strings.Split(c.log(), "\n") {
		if m := logKey.FindStringSubmatch(line); m != nil {
			into = map[string]*string{"encryption initiator": &k.encOut, "encryption responder": &k.encIn, "integrity initiator": &k.intOut, "integrity responder": &k.intIn}[m[1]+" "+m[2]]
			*into = ""
			continue
		}
		if m := logHex.FindStringSubmatch(line); m != nil && into != nil {
			*into += strings.ToLower(strings.ReplaceAll(m[1], " ", ""))
			continue
		}
		into = nil
		if m := logAdds.FindStringSubmatch(line); m != nil {
			spi = map[string]*uint32{"inbound": &k.spiIn, "outbound": &k.spiOut}[m[1]]
		}
		if m := logSPI.FindStringSubmatch(line); m != nil && spi != nil {
			var b []byte
			if b, err = hex.DecodeString(fmt.Sprintf("%08s", m[1])); err != nil {
				return k, err
			}
			*spi, spi = uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3]), nil
		}
	}
	if k.encIn == "" || k.encOut == "" || k.spiIn == 0 || k.spiOut == 0 {
		return k, fmt.Errorf("charon's log has no keys")
	}
	return k, nil
}

// swanAlgs are proposals of strongSwan's and what they are here.
var swanAlgs = []struct {
	proposal string
	alg      kernelAlg
}{
	{"aes128gcm16", kernelAlg{enc: 20, encKey: 20}},
	{"aes256gcm16", kernelAlg{enc: 20, encKey: 36}},
	{"aes128-sha256", kernelAlg{enc: 12, encKey: 16, integ: 12, intKey: 32}},
	{"aes256-sha512", kernelAlg{enc: 12, encKey: 32, integ: 14, intKey: 64}},
	{"aes128ctr-sha384", kernelAlg{enc: 13, encKey: 20, integ: 13, intKey: 48}},
}

// strongSwan's ESP in user space as the other end. Two of its daemons agree on
// keys; then the vRouter takes the place of one of them, with its keys and its
// address, and the other does not notice. Its ESP is always in UDP.
func TestStrongSwan(t *testing.T) {
	need(t, "swanctl", "unshare", "tcpdump")
	if _, err := os.Stat(charonPath); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("strongSwan is missing (make peers): ", err)
	}
	for i, c := range swanAlgs {
		t.Run(c.proposal, func(t *testing.T) {
			b := newBed(t)
			const own, peer = "192.0.2.8", "192.0.2.9"
			join := func(name, addr string) *lab.NS {
				n, err := b.Lab.NS(name, true)
				if err == nil {
					err = b.Lab.Link(n, "eth0", b.Wan, name)
				}
				if err == nil {
					err = n.IP("addr add " + addr + "/24 dev eth0")
				}
				if err == nil {
					err = b.Wan.IP("link set dev " + name + " master wan")
				}
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			here, there := join("middle", own), join("swan", peer)
			inner := fmt.Sprintf("10.%d.0.9", 30+i)
			if err := there.IP("addr add " + inner + "/24 dev lo"); err != nil {
				t.Fatal(err)
			}
			// The address that it has agreed to speak for; nothing answers on it yet.
			if err := here.IP("addr add 10.1.0.250/32 dev lo"); err != nil {
				t.Fatal(err)
			}
			prefix := fmt.Sprintf("10.%d.0.0/24", 30+i)
			stand := startCharon(t, b, here, "middle", own, peer, "10.1.0.0/24", prefix, c.proposal)
			swan := startCharon(t, b, there, "swan", peer, own, prefix, "10.1.0.0/24", c.proposal)
			defer func() {
				if t.Failed() {
					t.Logf("charon:\n%s", tail(regexp.MustCompile(`(?m)^.*\] +\d+: ([0-9A-F]{2} ).*\n`).ReplaceAllString(swan.log(), ""), 3000))
				}
			}()
			if out, err := swan.swanctl("--initiate", "--child", "net", "--timeout", "10"); err != nil {
				t.Fatalf("no tunnel between the two strongSwans: %v\n%s", err, out)
			}
			k, err := swan.keys()
			if err != nil {
				t.Fatal(err)
			}
			stand.proc.Kill() // without a word to its peer
			if err := lab.Until(5*time.Second, "the tunnel device of the dead one is gone", func() bool {
				out, _ := here.Run("ip", "-o", "link")
				return !strings.Contains(out, "ipsec0")
			}); err != nil {
				t.Fatal(err)
			}
			_ = here.IP("route flush table 220")
			if err := here.IP("link set dev eth0 down"); err != nil {
				t.Fatal(err)
			}
			_ = there.IP("neigh flush dev eth0") // the vRouter has its address now, and another MAC

			p := kernelPair{alg: c.alg, reqid: 100, inInt: k.intIn, outInt: k.intOut, peerPair: peerPair{Name: "swan", InSPI: k.spiIn, InKey: k.encIn, OutSPI: k.spiOut, OutKey: k.encOut,
				Local: peer, Remote: own, prefix: prefix, own: "10.1.0.0/24", UDP: true}}
			b.edit(b.A, strings.Replace(kernelConfig([]kernelPair{p}), "<ip>192.0.2.1</ip>", "<ip>"+own+"</ip>", 1))
			wan, err := b.Wan.Capture("swan", "a")
			if err != nil {
				t.Fatal(err)
			}
			if err := lab.Until(10*time.Second, "strongSwan's host answers", func() bool {
				_, err := b.HostA.Run("ping", "-n", "-c", "1", "-W", "1", inner)
				return err == nil
			}); err != nil {
				t.Fatalf("%v; drops %v", err, b.drops(b.A))
			}
			before := b.drops(b.A)
			for _, size := range []string{"0", "133", "1300"} {
				if out, err := b.HostA.Run("ping", "-n", "-c", "3", "-i", "0.1", "-W", "2", "-s", size, inner); err != nil || !strings.Contains(out, " 0% packet loss") {
					t.Errorf("ping with %s bytes: %v\n%s", size, err, out)
				}
			}
			if out, err := there.Run("ping", "-n", "-c", "3", "-i", "0.1", "-W", "2", "-I", inner, "10.1.0.2"); err != nil || !strings.Contains(out, " 0% packet loss") {
				t.Errorf("its ping: %v\n%s", err, out)
			}
			var l net.Listener
			if err := there.Do(func() (err error) { l, err = net.Listen("tcp", net.JoinHostPort(inner, "7")); return err }); err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = io.Copy(c, c)
					c.Close()
				}
			}()
			if err := echo(b.HostA, inner, 2_000_000); err != nil {
				t.Errorf("TCP: %v", err)
			}
			wan.Stop()
			if n := noneTwice(t, wan.File); n < 500 {
				t.Errorf("only %d ESP packets on the WAN", n)
			}
			if n, err := wan.Count("net 10.0.0.0/8"); err != nil || n > 0 {
				t.Errorf("%d inner packets in the clear on the WAN (%v)", n, err)
			}
			after := b.drops(b.A)
			for reason, n := range after {
				if (strings.HasPrefix(reason, "esp-") || strings.HasPrefix(reason, "ipsec-")) && n != before[reason] {
					t.Errorf("%s went from %d to %d", reason, before[reason], n)
				}
			}
			b.buffersAccounted()
		})
	}
}
