package checks_test

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gosnmp/gosnmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// object is a value as it goes over the wire.
type object struct {
	kind  gosnmp.Asn1BER
	value any
}

func integer(value int) object      { return object{gosnmp.Integer, value} }
func counter32(value uint32) object { return object{gosnmp.Counter32, value} }
func counter64(value uint64) object { return object{gosnmp.Counter64, value} }
func gauge32(value uint32) object   { return object{gosnmp.Gauge32, value} }
func timeTicks(value uint32) object { return object{gosnmp.TimeTicks, value} }
func text(value string) object      { return object{gosnmp.OctetString, value} }
func float(value float32) object    { return object{gosnmp.OpaqueFloat, value} }

// agent answers SNMP v2c over UDP from a table, as RFC 3416 asks it to.
type agent struct {
	address   string
	community string
	objects   []gosnmp.SnmpPDU // by object identifier
}

// startAgent serves the objects, keyed by object identifier without a leading dot, until the
// test ends.
func startAgent(t *testing.T, community string, objects map[string]object) *agent {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	a := &agent{address: conn.LocalAddr().String(), community: community}
	for _, oid := range slices.SortedFunc(maps.Keys(objects), compareOIDs) {
		a.objects = append(a.objects, gosnmp.SnmpPDU{Name: "." + oid, Type: objects[oid].kind, Value: objects[oid].value})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.serve(t, conn)
	}()
	t.Cleanup(func() {
		assert.NoError(t, conn.Close())
		<-done
	})
	return a
}

func (a *agent) serve(t *testing.T, conn *net.UDPConn) {
	decoder := &gosnmp.GoSNMP{Version: gosnmp.Version2c}
	packet := make([]byte, 65535)
	for {
		length, client, err := conn.ReadFromUDP(packet)
		if err != nil {
			return // closed: the test has ended
		}
		request, err := decoder.SnmpDecodePacket(packet[:length])
		if err != nil {
			t.Errorf("a packet that is no SNMP: %v", err)
			return
		}
		if request.Version != gosnmp.Version2c || request.Community != a.community {
			continue // an agent tells a stranger nothing, not even that it is there
		}
		response := &gosnmp.SnmpPacket{
			Version: request.Version, Community: request.Community,
			PDUType: gosnmp.GetResponse, RequestID: request.RequestID, Variables: a.answer(request),
		}
		content, err := response.MarshalMsg()
		if err == nil {
			_, err = conn.WriteToUDP(content, client)
		}
		if err != nil {
			t.Errorf("the answer: %v", err)
			return
		}
	}
}

func (a *agent) answer(request *gosnmp.SnmpPacket) []gosnmp.SnmpPDU {
	var answers []gosnmp.SnmpPDU
	switch request.PDUType {
	case gosnmp.GetRequest:
		for _, asked := range request.Variables {
			i, found := a.find(asked.Name)
			if !found {
				answers = append(answers, gosnmp.SnmpPDU{Name: asked.Name, Type: gosnmp.NoSuchInstance})
				continue
			}
			answers = append(answers, a.objects[i])
		}
	case gosnmp.GetNextRequest:
		for _, asked := range request.Variables {
			answers = append(answers, a.next(asked.Name))
		}
	case gosnmp.GetBulkRequest:
		repeaters := request.Variables[min(int(request.NonRepeaters), len(request.Variables)):]
		for _, asked := range request.Variables[:len(request.Variables)-len(repeaters)] {
			answers = append(answers, a.next(asked.Name))
		}
		for range request.MaxRepetitions {
			for i, asked := range repeaters {
				repeaters[i] = a.next(asked.Name)
				answers = append(answers, repeaters[i])
			}
		}
	default:
	}
	return answers
}

func (a *agent) next(oid string) gosnmp.SnmpPDU {
	i, found := a.find(oid)
	if found {
		i++
	}
	if i == len(a.objects) {
		return gosnmp.SnmpPDU{Name: oid, Type: gosnmp.EndOfMibView}
	}
	return a.objects[i]
}

func (a *agent) find(oid string) (int, bool) {
	return slices.BinarySearchFunc(a.objects, oid, func(held gosnmp.SnmpPDU, wanted string) int {
		return compareOIDs(held.Name, wanted)
	})
}

func compareOIDs(a, b string) int { return slices.Compare(numbers(a), numbers(b)) }

func numbers(oid string) []int {
	var list []int
	for part := range strings.SplitSeq(strings.TrimPrefix(oid, "."), ".") {
		number, err := strconv.Atoi(part)
		if err != nil {
			panic("not an object identifier: " + oid)
		}
		list = append(list, number)
	}
	return list
}
