# Evaluates XPath expressions with libxml2 and prints their values as JSON.
# Input: an XML file and a file with one expression per line.
import json, math, sys
from lxml import etree

doc = etree.parse(sys.argv[1])
NS = {"t": "urn:t", "u": "urn:u"}
# number the nodes in document order, each leaf's text behind it
number, text = {}, {}
for i, el in enumerate(doc.iter()):
    number[el] = i
out = []
for line in open(sys.argv[2], encoding="utf-8"):
    try:
        v = doc.xpath(line.rstrip("\n"), namespaces=NS)
    except etree.XPathError as e:
        out.append("error")
        continue
    if isinstance(v, bool):
        out.append("true" if v else "false")
    elif isinstance(v, float):
        out.append("n:" + ("NaN" if math.isnan(v) else repr(v + 0.0)))
    elif isinstance(v, str):
        out.append("s:" + v)
    else:
        nodes = []
        for n in v:
            if isinstance(n, str):
                nodes.append("t%d" % number[n.getparent()])
            else:
                nodes.append("e%d" % number[n])
        out.append(" ".join(nodes))
json.dump(out, sys.stdout)
