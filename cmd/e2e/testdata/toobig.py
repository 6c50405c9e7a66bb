#!/usr/bin/python3
"""ICMP errors about packets that are too big, made and judged by scapy alone.

toobig.py ask IFACE MAC SRC DST SIZE    sends an echo request of SIZE octets with DF
        (or of IPv6) by way of MAC, and prints what the answer is:
        {"error": bool, "mtu", "src", "sum", "quote", "length"}; quote is
        whether it quotes what was sent, octet for octet; null when nothing came
toobig.py tell IFACE MAC SRC DST MTU QDST SPI SEQ [PORT]   sends to MAC an
        error from SRC to DST, which quotes ESP from DST to QDST, in UDP if there
        is a PORT
"""
import json, sys
from scapy.config import conf
conf.verb = 0
from scapy.layers.inet import IP, ICMP, UDP
from scapy.layers.inet6 import IPv6, ICMPv6EchoRequest, ICMPv6EchoReply, ICMPv6PacketTooBig
from scapy.layers.l2 import Ether
from scapy.layers.ipsec import ESP
from scapy.packet import Raw
from scapy.sendrecv import sendp, srp1


def ask(iface, mac, src, dst, size):
    six, size = ":" in dst, int(size)
    text = bytes(i & 255 for i in range(size - (48 if six else 28)))
    p = IPv6(src=src, dst=dst) / ICMPv6EchoRequest(id=77, seq=1, data=text) if six else IP(src=src, dst=dst, flags="DF", id=4711) / ICMP(id=77, seq=1) / Raw(text)
    sent = bytes(p)
    assert len(sent) == size
    is_error = lambda r: (ICMPv6PacketTooBig in r) if six else (ICMP in r and r[ICMP].type == 3 and r[ICMP].code == 4)
    r = srp1(Ether(dst=mac) / p, iface=iface, timeout=5,
             filter="icmp6 and (ip6[40] == 2 or ip6[40] == 129)" if six else "icmp and (icmp[0] == 3 or icmp[0] == 0)")
    if r is None:
        print("null")
        return
    ip = r[IPv6] if six else r[IP]
    error = is_error(r)
    length = 40 + ip.plen if six else ip.len
    raw = bytes(ip)[:length]
    out = {"error": error, "src": ip.src, "length": length}
    if error:
        quote = raw[48:] if six else raw[ip.ihl * 4 + 8:]
        # A forwarded packet has one hop less, and another checksum of IPv4.
        want, got = bytearray(sent[:len(quote)]), bytearray(quote)
        for b in (want, got):
            if six:
                b[7] = 0
            else:
                b[8] = b[10] = b[11] = 0
        out["quote"] = want == got and len(quote) >= 28
        again = ip.__class__(raw)
        if six:
            out["mtu"] = r[ICMPv6PacketTooBig].mtu
            del again[ICMPv6PacketTooBig].cksum
        else:
            out["mtu"] = r[ICMP].nexthopmtu
            del again[IP].chksum, again[ICMP].chksum
        out["sum"] = bytes(again) == raw
    print(json.dumps(out))


def tell(iface, mac, src, dst, mtu, qdst, spi, seq, port=None):
    six, mtu = ":" in dst, int(mtu)
    inner = ESP(spi=int(spi), seq=int(seq), data=bytes(64))
    length = 1500
    if port:
        inner = UDP(sport=4500, dport=int(port), len=length - (40 if six else 20), chksum=0) / inner
    nh = 17 if port else 50
    if six:
        p = IPv6(src=src, dst=dst) / ICMPv6PacketTooBig(mtu=mtu) / IPv6(src=dst, dst=qdst, nh=nh, hlim=60, plen=length - 40) / inner
    else:
        p = IP(src=src, dst=dst) / ICMP(type=3, code=4, nexthopmtu=mtu) / IP(src=dst, dst=qdst, proto=nh, flags="DF", ttl=60, len=length) / inner
    sendp(Ether(dst=mac) / p, iface=iface)


{"ask": ask, "tell": tell}[sys.argv[1]](*sys.argv[2:])
