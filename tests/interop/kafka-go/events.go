package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The structs that the Go seed reads and writes.

type userEvent struct {
	EventType string      `json:"eventType"`
	UserID    int         `json:"userId"`
	Timestamp time.Time   `json:"timestamp"`
	Payload   interface{} `json:"payload"`
}

type taskEvent struct {
	EventType  string      `json:"eventType"`
	TaskID     int         `json:"taskId"`
	TeamID     int         `json:"teamId"`
	ActorID    int         `json:"actorId"`
	CreatorID  int         `json:"creatorId"`
	AssigneeID *int        `json:"assigneeId"`
	Timestamp  time.Time   `json:"timestamp"`
	Payload    interface{} `json:"payload"`
}

// decode reads one value of a topic as the seed does, and checks that what the seed's handlers use is there.
func decode(topic string, value []byte) error {
	switch {
	case strings.HasPrefix(topic, "user."):
		var event userEvent
		if err := json.Unmarshal(value, &event); err != nil {
			return err
		}
		if event.EventType != topic || event.UserID == 0 || event.Timestamp.IsZero() {
			return fmt.Errorf("%s: incomplete: %+v", topic, event)
		}
		if topic == "user.created" {
			return has(event.Payload, "email", "username")
		}
		return nil
	case strings.HasPrefix(topic, "task."):
		var event taskEvent
		if err := json.Unmarshal(value, &event); err != nil {
			return err
		}
		if event.EventType != topic || event.TaskID == 0 || event.TeamID == 0 || event.ActorID == 0 ||
			event.CreatorID == 0 || event.Timestamp.IsZero() {
			return fmt.Errorf("%s: incomplete: %+v", topic, event)
		}
		if !bytes.Contains(value, []byte(`"assigneeId"`)) {
			return fmt.Errorf("%s: assigneeId must be there, null if nobody", topic)
		}
		switch topic {
		case "task.updated":
			return has(event.Payload, "title", "completed")
		case "task.completed":
			return has(event.Payload, "completed")
		}
		return nil
	}
	return fmt.Errorf("%s: the seed has no struct for it", topic)
}

func has(payload interface{}, names ...string) error {
	fields, ok := payload.(map[string]interface{})
	if !ok {
		return fmt.Errorf("payload is no object: %v", payload)
	}
	for _, name := range names {
		if _, ok := fields[name]; !ok {
			return fmt.Errorf("payload has no %s: %v", name, fields)
		}
	}
	return nil
}

// decodeGolden decodes the golden files of the topics that the seed has structs for, one `<topic>*.json` each.
func decodeGolden(folder string) error {
	wanted := map[string]bool{
		"user.created": false, "task.created": false, "task.updated": false, "task.completed": false, "task.deleted": false,
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return err
	}
	for _, file := range files {
		name := filepath.Base(file)
		for topic := range wanted {
			if !strings.HasPrefix(name, topic) {
				continue
			}
			value, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if err := decode(topic, value); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			wanted[topic] = true
		}
	}
	for topic, found := range wanted {
		if !found {
			return fmt.Errorf("%s: no golden file of %s", folder, topic)
		}
	}
	return nil
}
