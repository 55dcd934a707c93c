// A kafka-go producer, acks=all, that goes on through every fault: go run ./crash BROKERS NUMBER TOPIC PARTITIONS.
// What it reads and prints is described in tests/crash/clients/CrashProducers.java.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

var (
	output   = bufio.NewWriter(os.Stdout)
	printing sync.Mutex
)

func say(format string, values ...any) {
	printing.Lock()
	defer printing.Unlock()
	fmt.Fprintf(output, format+"\n", values...)
	output.Flush()
}

func value(id int64) []byte {
	text := fmt.Appendf(nil, "%016x", id)
	return append(text, bytes.Repeat([]byte{byte('a' + id%26)}, int(id%101*20))...)
}

// place sends a record to the partition that its header names.
func place(message kafka.Message, _ ...int) int {
	return int(binary.BigEndian.Uint32(message.Headers[0].Value))
}

func acknowledged(messages []kafka.Message, err error) {
	if err != nil {
		return
	}
	for _, message := range messages {
		id, _ := strconv.ParseInt(string(message.Value[:16]), 16, 64)
		say("A %d %d", id, message.Offset)
	}
}

func main() {
	number, _ := strconv.ParseInt(os.Args[2], 10, 64)
	partitions, _ := strconv.ParseInt(os.Args[4], 10, 64)
	var budget atomic.Int64
	var stopping atomic.Bool
	go func() {
		input := bufio.NewScanner(os.Stdin)
		for input.Scan() {
			if records, err := strconv.ParseInt(input.Text(), 10, 64); err == nil {
				budget.Store(records)
			}
		}
		stopping.Store(true)
	}()
	writer := &kafka.Writer{
		Addr:            kafka.TCP(os.Args[1]),
		Topic:           os.Args[3],
		Balancer:        kafka.BalancerFunc(place),
		RequiredAcks:    kafka.RequireAll,
		BatchSize:       20,
		BatchTimeout:    time.Millisecond,
		MaxAttempts:     1000,
		WriteBackoffMin: 5 * time.Millisecond,
		WriteBackoffMax: 20 * time.Millisecond,
		Completion:      acknowledged,
	}
	for sent := int64(0); !stopping.Load(); {
		if sent >= budget.Load() {
			time.Sleep(2 * time.Millisecond)
			continue
		}
		var batch []kafka.Message
		for end := min(sent+20, budget.Load()); sent < end; sent++ {
			id, partition, key := number<<40+sent, sent%partitions, sent%500
			say("S %d %d %d -", id, partition, key)
			batch = append(batch, kafka.Message{
				Key:     fmt.Appendf(nil, "k%d", key),
				Value:   value(id),
				Headers: []kafka.Header{{Key: "p", Value: binary.BigEndian.AppendUint32(nil, uint32(partition))}},
			})
		}
		// What was not written may be there or not; the next are other records.
		if err := writer.WriteMessages(context.Background(), batch...); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if err := writer.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
