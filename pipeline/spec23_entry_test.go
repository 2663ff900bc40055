package pipeline

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

func TestSpec2_FaultsAreReasonsInParse(t *testing.T) {
	f := newFabric(t)
	rows := []struct {
		at    int
		bytes []byte
		want  Reason
	}{
		{16, []byte{0, 1}, ReasonMalformed},
		{12, []byte{0x81, 0}, ReasonVLAN},
		{12, []byte{0x86, 0xdd}, ReasonIPv6},
		{12, []byte{0x88, 0xcc}, ReasonNotIP},
		{14, []byte{0x46}, ReasonIPOptions},
		{26, []byte{127}, ReasonMartian},
		{30, []byte{224}, ReasonMulticast},
		{20, []byte{0, 1}, ReasonFragment},
	}
	for _, r := range rows {
		frame := packet.Build(tcp(testset.Web1, "10.1.1.10", 1, "10.1.2.10", 2, packet.SYN))
		copy(frame[r.at:], r.bytes)
		for _, from := range []table.PortID{testset.Web1, testset.UplinkEast} {
			res := f.raw(from, frame)
			if res.Verdict != Drop || res.Reason != r.want || len(res.Steps) != 1 || res.Steps[0].Stage != StageParse {
				t.Errorf("%s %s, want %s: %s", res.Verdict, res.Reason, r.want, path(res))
			}
		}
	}
	redirect := echo(testset.Web1, "10.1.1.10", "10.1.2.10", 1)
	redirect.ICMPType = 5
	f.drop(testset.Web1, redirect, ReasonICMPType)
}

func TestSpec3_NoPortBeforeParse(t *testing.T) {
	res := newFabric(t).raw(7, []byte{1, 2, 3})
	if got, want := path(res), "parse(7 no_port)"; got != want || res.Verdict != Drop {
		t.Errorf("%s %s, want %s", res.Verdict, got, want)
	}
}

func TestSpec3_ARP(t *testing.T) {
	mac := func(p table.PortID) packet.MAC { return packet.MAC(testset.MAC(p)) }
	request := func(sender, target string) packet.ARP {
		return packet.ARP{Op: packet.ARPRequest, SenderMAC: mac(testset.Web1), Sender: addr(sender), Target: addr(target)}
	}
	with := func(a packet.ARP, change func(*packet.ARP)) packet.ARP {
		change(&a)
		return a
	}
	rows := []struct {
		name   string
		arp    packet.ARP
		answer packet.MAC
		want   Reason
	}{
		{"gateway", request("10.1.1.10", "10.1.1.1"), packet.MAC(table.RouterMAC), ReasonNone},
		{"neighbour", request("10.1.1.10", "10.1.1.11"), mac(testset.Web2), ReasonNone},
		{"second address of a neighbour", request("10.1.1.10", "10.1.1.21"), mac(testset.NodeUp), ReasonNone},
		{"probe", request("0.0.0.0", "10.1.1.11"), mac(testset.Web2), ReasonNone},
		{"probe of the own address", request("0.0.0.0", "10.1.1.10"), packet.MAC{}, ReasonARPUnknown},
		{"nobody", request("10.1.1.10", "10.1.1.99"), packet.MAC{}, ReasonARPUnknown},
		{"other segment", request("10.1.1.10", "10.1.2.10"), packet.MAC{}, ReasonARPUnknown},
		{"announcement", with(request("10.1.1.10", "10.1.1.10"), func(a *packet.ARP) { a.Op = packet.ARPReply }), packet.MAC{}, ReasonARPUnknown},
		{"other sender address", request("10.1.1.11", "10.1.1.1"), packet.MAC{}, ReasonSpoofguard},
		{"other sender MAC", with(request("10.1.1.10", "10.1.1.1"), func(a *packet.ARP) { a.SenderMAC = mac(testset.Web2) }), packet.MAC{}, ReasonSpoofguard},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			in := packet.Build(packet.Spec{EthSrc: mac(testset.Web1), EthDst: packet.MAC{255, 255, 255, 255, 255, 255}, ARP: &r.arp, Padding: 18})
			res := newFabric(t).raw(testset.Web1, in)
			if res.Reason != r.want {
				t.Fatalf("%s, want %s: %s", res.Reason, r.want, path(res))
			}
			if r.want != ReasonNone {
				if res.Verdict != Drop || res.Steps[0].Stage != StageNeighbour {
					t.Errorf("%s %s", res.Verdict, path(res))
				}
				return
			}
			want := packet.AppendARPReply(nil, in, r.answer)
			if d := cmp.Diff(want, res.Frame); d != "" || res.Verdict != Answer || res.Out != testset.Web1 {
				t.Errorf("%s by %d: %s", res.Verdict, res.Out, d)
			}
		})
	}
}

func TestSpec3_ARPSenderMACMustBeTheFramesAndThePorts(t *testing.T) {
	f := newFabric(t)
	for _, sender := range []string{"0.0.0.0", "10.1.1.10"} {
		a := packet.ARP{Op: packet.ARPRequest, SenderMAC: packet.MAC{2, 9, 9}, Sender: addr(sender), Target: addr("10.1.1.1")}
		for _, eth := range []packet.MAC{{2, 9, 9}, packet.MAC(testset.MAC(testset.Web1))} {
			res := f.raw(testset.Web1, packet.Build(packet.Spec{EthSrc: eth, ARP: &a}))
			if res.Reason != ReasonSpoofguard {
				t.Errorf("sender %s: %s", sender, res.Reason)
			}
		}
	}
}

func TestSpec3_ARPMalformed(t *testing.T) {
	frame := packet.Build(packet.Spec{ARP: &packet.ARP{Op: 1, Sender: addr("10.1.1.10"), Target: addr("10.1.1.1")}})
	frame[15] = 6
	if got, want := path(newFabric(t).raw(testset.Web1, frame)), "neighbour(201 malformed)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestSpec3_ARPOfAnUplinkPasses(t *testing.T) {
	frame := packet.Build(packet.Spec{ARP: &packet.ARP{Op: 2, Sender: addr("192.0.2.1"), Target: addr("192.0.2.2")}})
	if res := newFabric(t).raw(testset.UplinkEast, frame); res.Verdict != Pass || res.Reason != ReasonNone || len(res.Frame) != 0 {
		t.Errorf("%s %s", res.Verdict, res.Reason)
	}
}

func TestSpec3_Spoofguard(t *testing.T) {
	f := newFabric(t)
	f.drop(testset.Web1, tcp(testset.Web1, "10.1.1.11", 1, "10.1.2.10", 2, packet.SYN), ReasonSpoofguard)
	f.drop(testset.Web1, tcp(testset.Web2, "10.1.1.10", 1, "10.1.2.10", 2, packet.SYN), ReasonSpoofguard)
	res := f.drop(testset.App1, tcp(testset.App1, "10.1.1.11", 1, "172.16.3.10", 2, packet.SYN), ReasonSpoofguard)
	if got, want := path(res), "spoofguard(207 spoofguard)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
