package netswitch

// The packet filter of the switch's namespace, by nftables over netlink.

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/switch/uplink"
)

const tableName = "skiff"

// loopbackSets hold the containers that may reach the host's loopback, by family.
var loopbackSets = [2]string{"loopback4", "loopback6"}

// filter changes the packet filter: f adds to the batch, which is done at once or not at all.
func (s *space) filter(f func(c *nftables.Conn) error) error {
	err := s.do(func() error {
		c, err := nftables.New()
		if err == nil {
			err = f(c)
		}
		if err == nil {
			err = c.Flush()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot change the packet filter: %w", err)
	}
	return nil
}

// ifPrefix matches interfaces whose name begins with prefix.
func ifPrefix(key expr.MetaKey, prefix string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(prefix)}}
}

// ifName matches one interface.
func ifName(key expr.MetaKey, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifData(name)}}
}

// ifData is an interface's name as the kernel compares it.
func ifData(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func drop() expr.Any { return &expr.Verdict{Kind: expr.VerdictDrop} }

// rules writes the table anew: what one network may send another (nothing), what may leave, and whose addresses are translated.
func (s *space) rules() error { return s.filter(writeRules) }

func writeRules(c *nftables.Conn) error {
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
	c.AddTable(t)
	c.DelTable(t) // that of a switch before
	c.AddTable(t)
	accept := nftables.ChainPolicyAccept
	forward := c.AddChain(&nftables.Chain{Name: "forward", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &accept})
	input := c.AddChain(&nftables.Chain{Name: "input", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter, Policy: &accept})
	nat := c.AddChain(&nftables.Chain{Name: "leaving", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource, Policy: &accept})
	arriving := c.AddChain(&nftables.Chain{Name: "arriving", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle, Policy: &accept})
	ours := c.AddChain(&nftables.Chain{Name: "ours", Table: t, Type: nftables.ChainTypeRoute, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityMangle, Policy: &accept})
	add := func(chain *nftables.Chain, parts ...[]expr.Any) {
		var all []expr.Any
		for _, p := range parts {
			all = append(all, p...)
		}
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: all})
	}
	// Answers pass: what may not begin is what the rules are about.
	for _, chain := range []*nftables.Chain{forward, input} {
		add(chain, []expr.Any{
			&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
			&expr.Verdict{Kind: expr.VerdictAccept},
		})
	}
	// From other interfaces (parents of macvlan networks) nothing is for us, nor for anybody behind us: what is for containers on them does not come this way.
	foreign := []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}}
	for _, own := range [][]byte{[]byte(bridgePrefix), []byte(internalPrefix), ifData(uplinkName), ifData("lo")} {
		foreign = append(foreign, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: own})
	}
	add(arriving, foreign, []expr.Any{drop()})
	// Networks do not reach each other, internal ones nothing. Between containers of one network the bridge forwards, not this.
	for _, from := range []string{bridgePrefix, internalPrefix} {
		for _, to := range []string{bridgePrefix, internalPrefix} {
			add(forward, ifPrefix(expr.MetaKeyIIFNAME, from), ifPrefix(expr.MetaKeyOIFNAME, to), []expr.Any{drop()})
		}
	}
	add(forward, ifPrefix(expr.MetaKeyIIFNAME, internalPrefix), []expr.Any{drop()})
	add(forward, ifPrefix(expr.MetaKeyOIFNAME, internalPrefix), []expr.Any{drop()})
	// The uplink's own address is the host's loopback, for those who were given it.
	for i, gateway := range []netip.Addr{uplink.Gateway4, uplink.Gateway6} {
		kind, size := nftables.TypeIPAddr, uint32(4)
		if i == 1 {
			kind, size = nftables.TypeIP6Addr, 16
		}
		set := &nftables.Set{Table: t, Name: loopbackSets[i], KeyType: kind}
		if err := c.AddSet(set, nil); err != nil {
			return err
		}
		family, source, target := byte(unix.NFPROTO_IPV4), uint32(12), uint32(16)
		if i == 1 {
			family, source, target = unix.NFPROTO_IPV6, 8, 24
		}
		add(forward, []expr.Any{
			&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: target, Len: size},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: gateway.AsSlice()},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: source, Len: size},
			&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: true},
			drop(),
		})
	}
	// Of the switch itself containers reach the name server and echo; a container's address of another network is not one of ours either.
	for _, prefix := range []string{bridgePrefix, internalPrefix} {
		for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
			add(input, ifPrefix(expr.MetaKeyIIFNAME, prefix), []expr.Any{
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
				&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.BigEndian.PutUint16(53)},
				&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: mark()},
				drop(),
			})
		}
	}
	add(nat, ifName(expr.MetaKeyOIFNAME, uplinkName), []expr.Any{&expr.Masq{}})
	// Connections that the switch makes with a client's address (published ports): the answers are for us.
	add(ours, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(ownMark)},
		&expr.Immediate{Register: 1, Data: mark()}, &expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true},
	})
	add(arriving, []expr.Any{
		&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: mark()},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
	})
	return nil
}

func mark() []byte { return binaryutil.NativeEndian.PutUint32(localMark) }

// allowLoopback lets addresses reach the host's loopback, or no more.
func (s *space) allowLoopback(addresses []netip.Addr, allow bool) error {
	if len(addresses) == 0 {
		return nil
	}
	return s.filter(func(c *nftables.Conn) error {
		t := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
		for _, a := range addresses {
			i := 0
			if a.Is6() {
				i = 1
			}
			set, err := c.GetSetByName(t, loopbackSets[i])
			if err != nil {
				return err
			}
			elements := []nftables.SetElement{{Key: a.AsSlice()}}
			if allow {
				err = c.SetAddElements(set, elements)
			} else {
				err = c.SetDeleteElements(set, elements)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
