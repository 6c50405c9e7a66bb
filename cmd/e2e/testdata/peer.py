#!/usr/bin/python3
"""An IPsec peer that shares no code with the vRouter: scapy and cryptography.

peer.py IFACE SAS     answers pings that come through ESP, through ESP. SAS is a
                      JSON list of pairs:
  {"name":…, "in_spi":…, "in_key":hex, "out_spi":…, "out_key":hex, "esn":bool,
   "udp":bool, "mode":"tunnel" or "transport",
   "local":outer address, "remote":outer address of the vRouter}
In transport mode it is the peer who pings, and what comes must be the answer.
Keys are cipher key and salt. "enc" and "integ" are IKEv2 transform numbers; where
"integ" is not 0, "in_ikey" and "out_ikey" are its keys. For every ESP packet a JSON line says what was
found: {"name", "seq", "ok", "inner", "scapy"}; scapy is whether scapy opened
the packet to the same bytes, null where it cannot judge (HMAC with ESN). "ready" is printed first.

Lines on standard input make faulty packets, each {"name":…, "fault":…, "seq":…}:
  good, replay (same as good: give an old seq), icv, cipher, iv, spi, short,
  pad, next, length (a text that is not aligned), encapsulation (in UDP where it
  should not be, or the other way), clear (what should be protected, as it is)
"""
import json, os, select, socket, struct, sys
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.exceptions import InvalidSignature, InvalidTag
from scapy.config import conf
conf.verb = 0
from scapy.layers.inet import IP, ICMP
from scapy.layers.inet6 import IPv6, ICMPv6EchoRequest, ICMPv6EchoReply
from scapy.layers.l2 import Ether
from scapy.layers.ipsec import SecurityAssociation, ESP
from scapy.packet import Raw
from scapy.utils import checksum


def say(**kw):
    print(json.dumps(kw), flush=True)


NULL, CBC, CTR, GCM, CHACHA = 11, 12, 13, 20, 28
IV = {NULL: 0, CBC: 16, CTR: 8, GCM: 8, CHACHA: 8}
SCAPY = {NULL: "NULL", CBC: "AES-CBC", CTR: "AES-CTR", GCM: "AES-GCM", CHACHA: "CHACHA20-POLY1305"}
MAC = {2: (hashes.SHA1, 12, "HMAC-SHA1-96"), 12: (hashes.SHA256, 16, "SHA2-256-128"),
       13: (hashes.SHA384, 24, "SHA2-384-192"), 14: (hashes.SHA512, 32, "SHA2-512-256")}


class Pair:
    def __init__(self, d):
        self.d = d
        self.name, self.esn, self.enc, self.integ = d["name"], d["esn"], d["enc"], d["integ"]
        self.inkey, self.outkey = bytes.fromhex(d["in_key"]), bytes.fromhex(d["out_key"])
        self.inmac, self.outmac = bytes.fromhex(d["in_ikey"]), bytes.fromhex(d["out_ikey"])
        self.v6 = ":" in d["local"]
        self.udp, self.transport = d["udp"], d["mode"] == "transport"
        self.seq = 0
        self.iv = IV[self.enc]
        self.icv = MAC[self.integ][1] if self.integ else 16
        self.align = 16 if self.enc == CBC else 4
        # This scapy leaves the upper half out of what HMAC covers.
        self.judge = not (self.esn and self.integ)
        self.seen_iv = set()
        self.scapy_in = self.scapy(d["in_spi"], self.inkey, self.inmac, d["remote"], d["local"])
        self.scapy_out = self.scapy(d["out_spi"], self.outkey, self.outmac, d["local"], d["remote"])

    def scapy(self, spi, key, mackey, src, dst):
        kw = dict(auth_algo=MAC[self.integ][2], auth_key=mackey) if self.integ else {}
        if not self.transport:
            kw["tunnel_header"] = (IPv6 if self.v6 else IP)(src=src, dst=dst)
        return SecurityAssociation(ESP, spi=spi, crypt_algo=SCAPY[self.enc], crypt_key=key or None, esn_en=self.esn, esn=0, **kw)

    def aad(self, spi, seq):
        return struct.pack("!III", spi, 0, seq) if self.esn else struct.pack("!II", spi, seq)

    def aead(self, key):
        return (ChaCha20Poly1305 if self.enc == CHACHA else AESGCM)(key[:-4])

    def mac(self, key, esp):
        """RFC 4303 section 2.2.1: the upper half stands behind the packet."""
        m = hmac.HMAC(key, MAC[self.integ][0]())
        m.update(esp + (b"\0\0\0\0" if self.esn else b""))
        return m.finalize()[:self.icv]

    def cipher(self, key, iv):
        if self.enc == CBC:
            return Cipher(algorithms.AES(key), modes.CBC(iv))
        return Cipher(algorithms.AES(key[:-4]), modes.CTR(key[-4:] + iv + b"\0\0\0\1"))

    def open(self, esp):
        """RFC 4303 and that of the algorithm: bytes of an ESP packet to the inner packet."""
        spi, seq = struct.unpack("!II", esp[:8])
        iv = esp[8:8 + self.iv]
        if not self.integ:
            text = self.aead(self.inkey).decrypt(self.inkey[-4:] + iv, esp[8 + self.iv:], self.aad(spi, seq))
        else:
            if self.mac(self.inmac, esp[:-self.icv]) != esp[-self.icv:]:
                raise InvalidSignature()
            text = esp[8 + self.iv:-self.icv]
            if self.enc != NULL:
                d = self.cipher(self.inkey, iv).decryptor()
                text = d.update(text) + d.finalize()
        if iv and iv in self.seen_iv:
            raise ValueError("IV twice")
        self.seen_iv.add(iv)
        pad, nxt = text[-2], text[-1]
        body, padding = text[:-2 - pad], text[len(text) - 2 - pad:-2]
        if padding != bytes(range(1, pad + 1)):
            raise ValueError("padding")
        if len(text) % self.align:
            raise ValueError("alignment")
        if nxt not in ((58,) if self.transport and self.v6 else (1,) if self.transport else (4, 41)):
            raise ValueError("next header %d" % nxt)
        return nxt, body

    def clear(self, head, esp):
        """The packet that was protected, of that which has a header and, around ESP, UDP."""
        nxt, body = self.open(esp)
        return relabel(head, nxt, body) if self.transport else body

    def seal(self, inner, seq):
        """The outgoing ESP packet, outer header included, made by scapy where it can."""
        if not self.judge:
            return self.seal_raw(bytes(inner), seq)
        kw = dict(seq_num=seq, iv=self.newiv(seq))
        if self.esn:
            kw.update(esn_en=True, esn=0)
        ip = bytes(self.scapy_out.encrypt(inner, **kw))
        return in_udp(ip) if self.udp else ip

    def newiv(self, seq):
        return os.urandom(16) if self.enc == CBC else struct.pack("!Q", seq)[:self.iv]

    def seal_raw(self, text, seq, nxt=None, pad=None, cut=0):
        """An ESP packet with a trailer of our choice; own code."""
        spi = self.d["out_spi"]
        if self.transport:
            h = 40 if self.v6 else 20
            nxt, text = text[6 if self.v6 else 9] if nxt is None else nxt, text[h:]
        n = -(2 + len(text)) % self.align
        padding = bytes(range(1, n + 1))
        nxt = nxt if nxt is not None else (41 if text[0] >> 4 == 6 else 4)
        text = text + padding + bytes([n if pad is None else pad, nxt])
        iv = self.newiv(seq)
        esp = struct.pack("!II", spi, seq) + iv
        if not self.integ:
            text = text[:len(text) - cut]
            esp += self.aead(self.outkey).encrypt(self.outkey[-4:] + iv, text, self.aad(spi, seq))
        else:
            if self.enc != NULL:
                e = self.cipher(self.outkey, iv).encryptor()
                text = e.update(text) + e.finalize()
            esp += text[:len(text) - cut]
            esp += self.mac(self.outmac, esp)
        return self.outer(esp)

    def outer(self, esp):
        if self.v6:
            ip = bytes(IPv6(src=self.d["local"], dst=self.d["remote"], nh=50) / Raw(esp))
        else:
            ip = bytes(IP(src=self.d["local"], dst=self.d["remote"], proto=50) / Raw(esp))
        return in_udp(ip) if self.udp else ip


def relabel(head, nxt, body):
    """A packet with another upper protocol behind its header."""
    head = bytearray(head)
    if head[0] >> 4 == 6:
        head[4:7] = struct.pack("!HB", len(body), nxt)
        return bytes(head) + body
    head[2:4], head[9], head[10:12] = struct.pack("!H", len(head) + len(body)), nxt, b"\0\0"
    head[10:12] = struct.pack("!H", checksum(bytes(head)))
    return bytes(head) + body


def in_udp(ip):
    """RFC 3948 section 2.1, from and to port 4500."""
    h = 40 if ip[0] >> 4 == 6 else 20
    u = struct.pack("!HHHH", 4500, 4500, 8 + len(ip) - h, 0) + ip[h:]
    return relabel(ip[:h], 17, u)


def answers(ip, ping):
    """Whether a packet is the answer to a ping, with right checksums."""
    if ip[0] >> 4 == 6:
        p, q = IPv6(ip), IPv6(ping)
        if ICMPv6EchoReply not in p or (p.src, p.dst, p.plen) != (q.dst, q.src, q.plen):
            return False
        a, b = p[ICMPv6EchoReply], q[ICMPv6EchoRequest]
        whole = ip[8:40] + struct.pack("!II", p.plen, 58) + ip[40:]
        return (a.id, a.seq, a.data) == (b.id, b.seq, b.data) and checksum(whole) == 0
    p, q = IP(ip), IP(ping)
    if ICMP not in p or p[ICMP].type != 0 or (p.src, p.dst, p.len) != (q.dst, q.src, q.len):
        return False
    return ip[24:] == ping[24:] and checksum(ip[:20]) == 0 and checksum(ip[20:]) == 0


def answer(inner):
    """The echo reply to an inner echo request, as a scapy packet."""
    if inner[0] >> 4 == 6:
        p = IPv6(inner)
        if ICMPv6EchoRequest not in p:
            return None
        q = p[ICMPv6EchoRequest]
        return IPv6(src=p.dst, dst=p.src) / ICMPv6EchoReply(id=q.id, seq=q.seq, data=q.data)
    p = IP(inner)
    if ICMP not in p or p[ICMP].type != 8:
        return None
    q = p[ICMP]
    return IP(src=p.dst, dst=p.src, tos=p.tos) / ICMP(type=0, id=q.id, seq=q.seq) / Raw(bytes(q.payload))


def sample(d):
    a, b = d["inner"]
    if ":" in a:
        return bytes(IPv6(src=a, dst=b) / ICMPv6EchoRequest(id=7, seq=1, data=b"x" * 20))
    return bytes(IP(src=a, dst=b) / ICMP(id=7, seq=1) / Raw(b"x" * 20))


def main():
    iface = sys.argv[1]
    pairs = [Pair(d) for d in json.load(open(sys.argv[2]))]
    by_spi, by_name = {p.d["in_spi"]: p for p in pairs}, {p.name: p for p in pairs}
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.bind((iface, 0))
    own = s.getsockname()[4]
    vr = bytes.fromhex(sys.argv[3].replace(":", ""))

    def send(ip):
        s.send(vr + own + (b"\x86\xdd" if ip[0] >> 4 == 6 else b"\x08\x00") + ip)

    say(ready=True)
    stdin = b""
    while True:
        r, _, _ = select.select([s, 0], [], [])
        if 0 in r:
            more = os.read(0, 65536)
            if not more:
                return
            stdin += more
            while b"\n" in stdin:
                line, stdin = stdin.split(b"\n", 1)
                c = json.loads(line)
                p = by_name[c["name"]]
                inner = sample(p.d)
                f, seq = c["fault"], c["seq"]
                if f in ("good", "replay"):
                    ip = p.seal(IPv6(inner) if inner[0] >> 4 == 6 else IP(inner), seq)
                elif f == "next":
                    ip = p.seal_raw(inner, seq, nxt=6)
                elif f == "pad":
                    ip = p.seal_raw(inner, seq, pad=250)
                elif f == "length":
                    ip = p.seal_raw(inner, seq, cut=4 if p.align == 16 else 1)
                elif f == "clear":
                    ip = inner
                elif f == "encapsulation":
                    p.udp = not p.udp
                    ip = p.seal_raw(inner, seq)
                    p.udp = not p.udp
                else:
                    ip = bytearray(p.seal_raw(inner, seq))
                    h = (40 if p.v6 else 20) + (8 if p.udp else 0)
                    if f == "icv":
                        ip[-1] ^= 1
                    elif f == "cipher":
                        ip[h + 8 + p.iv + 4] ^= 1
                    elif f == "iv":
                        ip[h + 8] ^= 1
                    elif f == "spi":
                        ip[h] ^= 0xff
                    elif f == "short":
                        ip = p.outer(bytes(ip[h:h + 8 + p.iv + p.icv]))
                    ip = bytes(ip)
                send(ip)
                say(sent=f, name=p.name)
        if s not in r:
            continue
        f, meta = s.recvfrom(65536)
        if meta[2] == 4 or f[:6] != own:  # our own, or for somebody else
            continue
        ip = f[14:]
        if ip[:1] and ip[0] >> 4 == 4 and ip[9] in (17, 50):
            n, total, proto = (ip[0] & 15) * 4, struct.unpack("!H", ip[2:4])[0], ip[9]
        elif ip[:1] and ip[0] >> 4 == 6 and ip[6] in (17, 50):
            n, total, proto = 40, 40 + struct.unpack("!H", ip[4:6])[0], ip[6]
        else:
            continue
        head, esp = ip[:n], ip[n:total]
        if proto == 17:
            if struct.unpack("!HHH", esp[:6]) != (4500, 4500, len(esp)):
                continue
            sum6 = checksum(ip[8:40] + struct.pack("!II", len(esp), 17) + esp) if n == 40 else 0
            if (esp[6:8] == b"\0\0") != (n == 20) or sum6:  # none over IPv4, a right one over IPv6
                say(ok=False, error="UDP checksum")
                continue
            esp = esp[8:]
            if esp == b"\xff":  # a NAT keep-alive
                continue
        spi, seq = struct.unpack("!II", esp[:8])
        p = by_spi.get(spi)
        if p is None:
            continue
        try:
            if p.udp != (proto == 17):
                raise ValueError("encapsulation")
            inner = p.clear(head, esp)
            if p.transport and not answers(inner, sample(p.d)):
                raise ValueError("no answer to the ping: " + inner.hex())
        except (InvalidTag, InvalidSignature, ValueError) as e:
            say(name=p.name, seq=seq, ok=False, error=repr(e))
            continue
        kw = dict(esn_en=True, esn=0) if p.esn else {}
        try:
            if not p.judge:
                raise NotImplementedError
            d = p.scapy_in.decrypt((IPv6 if p.v6 else IP)(relabel(head, 50, esp)), **kw)
            same = bytes(d) == inner
        except NotImplementedError:
            same = None
        except Exception as e:  # scapy's own errors are of many types
            same = repr(e)
        say(name=p.name, seq=seq, ok=True, inner=inner.hex(), scapy=same)
        reply = None if p.transport else answer(inner)
        if reply is not None:
            p.seq += 1
            send(p.seal(reply, p.seq))


main()
