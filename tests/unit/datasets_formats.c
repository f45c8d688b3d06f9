/* The formats of records: recognised, read, and refused with the message that says what is wrong. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "datasets/columns.h"
#include "datasets/record.h"

#include <stdio.h>
#include <string.h>

/* ---- what a record says, in a line ---- */

static void show_talk(Buffer *out, const Conversation *talk) {
  static const char *const roles[] = {"S", "U", "A", "T", ""};
  Error error = {0};
  for (size_t i = 0; i < talk->count; i++) {
    const ChatMessage *message = &talk->items[i];
    assert_true(buffer_format(out, &error, "%s%s%s%s:%.*s", i ? " " : "", roles[message->role],
                              message->role == CHAT_OTHER ? message->role_name : "",
                              message->extra ? "+" : "", (int)message->bytes,
                              message->text ? message->text : ""));
    if (message->input) {
      assert_true(buffer_format(out, &error, "(%.*s)", (int)message->input_bytes, message->input));
    }
  }
  if (talk->tools) assert_true(buffer_format(out, &error, " tools %zu", json_array_size(talk->tools)));
}

static void show_record(Buffer *out, const Record *record, DatasetFormat format) {
  Error error = {0};
  buffer_clear(out);
  assert_true(buffer_text(out, "", &error));
  if (record->text) assert_true(buffer_format(out, &error, "%.*s", (int)record->text_bytes, record->text));
  show_talk(out, &record->talk);
  if (record->rejected.count) {
    assert_true(buffer_text(out, " > ", &error));
    show_talk(out, &record->rejected);
  }
  for (size_t i = 0; i < record->answer_count && record->talk.count == 0; i++) {
    assert_true(buffer_format(out, &error, "%s%g ", i ? " | " : "", record->answers[i].score));
    show_talk(out, &record->answers[i].talk);
  }
  if (record->reference) assert_true(buffer_format(out, &error, " = %s", record->reference));
  if (record->margin != 0) assert_true(buffer_format(out, &error, " margin %g", record->margin));
  if (format == FORMAT_UNPAIRED && record->talk.items[record->talk.count - 1].role == CHAT_ASSISTANT)
    assert_true(buffer_text(out, record->desirable ? " good" : " bad", &error));
  if (record->scored) {
    assert_true(buffer_format(out, &error, " scores %g %g", record->chosen_score, record->rejected_score));
  }
  const PairLabels *labels = &record->labels;
  if (format == FORMAT_SAFE_PAIR) {
    assert_true(buffer_format(out, &error, " better %d safer %d safe %d %d", labels->better, labels->safer,
                              labels->chosen_safe, labels->rejected_safe));
  }
}

/* Single quotes stand for double ones, so that records can be read here. */
static json_t *parse_quoted(const char *text) {
  char copy[2048];
  json_error_t where;
  assert_true(strlen(text) < sizeof copy);
  snprintf(copy, sizeof copy, "%s", text);
  for (char *at = copy; *at; at++) {
    if (*at == '\'') *at = '"';
  }
  json_t *root = json_parse(copy, strlen(copy), json_limit_record, JSON_ALLOW_NUL, &where);
  if (!root) fail_msg("%s: %s", text, where.text);
  return root;
}

typedef struct Case {
  const char *record;
  DatasetKind kind;
  DatasetFormat format;
  const char *expected;
} Case;

/* The record as it is read, or the message. */
static void read_case(const Case *asked, const char *columns, bool by_safety, Buffer *out) {
  json_t *root = parse_quoted(asked->record);
  Columns names;
  Error error = {0};
  Record record = {.by_safety = by_safety};
  DatasetFormat format = asked->format;
  bool ok = columns_open(&names, columns, FORMAT_AUTO, "data.train", &error) &&
            columns_apply(&names, root, &record.passed, &error);
  const RecordPlace place = {.file = "f", .line = 7, .columns = &names};
  ok = ok && (format != FORMAT_AUTO || record_detect(root, asked->kind, place, &format, &error)) &&
       record_parse(&record, root, asked->kind, format, place, &error);
  buffer_clear(out);
  if (ok) {
    show_record(out, &record, format);
    Error none = {0};
    assert_true(buffer_format(out, &none, " [%s]", dataset_format_names[format]));
  } else {
    Error none = {0};
    assert_true(buffer_text(out, error.message, &none));
  }
  record_free(&record);
  columns_close(&names);
  json_decref(root);
}

static void check_cases(const Case *cases, size_t count, const char *columns, bool by_safety) {
  Buffer found = {0};
  for (size_t i = 0; i < count; i++) {
    read_case(&cases[i], columns, by_safety, &found);
    if (strcmp(found.data, cases[i].expected) == 0) continue;
    fail_msg("%s\nexpected: %s\nfound:    %s", cases[i].record, cases[i].expected, found.data);
  }
  buffer_free(&found);
}

#define CHECK(cases) check_cases(cases, sizeof cases / sizeof *cases, NULL, false)

#define SFT  DATASET_SFT
#define PAIR DATASET_PREFERENCE
#define ASK  DATASET_PROMPT
#define ONE  DATASET_UNPAIRED

/* ---- one conversation ---- */

static void conversations(void **state) {
  (void)state;
  static const Case cases[] = {
      {"{'instruction':'i','input':'x','output':'o'}", SFT, 0, "U:i(x) A:o [alpaca]"},
      {"{'instruction':'i','input':'','output':'o','system':'s','history':[['q','a']]}", SFT, 0,
       "S:s U:q A:a U:i A:o [alpaca]"},
      {"{'instruction':'i','context':'c','response':'r','category':'qa'}", SFT, 0, "U:i(c) A:r [dolly]"},
      {"{'instruction':'i','context':'','response':'r'}", ASK, 0, "U:i = r [dolly]"},
      {"{'instruction':'i'}", ASK, 0, "U:i [alpaca]"},
      {"{'instruction':'i','context':'c'}", ASK, 0, "U:i(c) [dolly]"},
      {"{'messages':[{'role':'system','content':'s'},{'role':'user','content':'u'},{'role':'assistant','"
       "content':"
       "'a'}]}",
       SFT, 0, "S:s U:u A:a [messages]"},
      {"{'messages':[{'from':'human','content':'u'},{'from':'assistant','content':'a'}]}", SFT, 0,
       "U:u A:a [messages]"},
      {"{'conversations':[{'from':'human','value':'u'},{'from':'gpt','value':'a'}],'system':'s'}", SFT, 0,
       "S:s U:u A:a [sharegpt]"},
      {"{'conversations':[{'role':'user','content':'u'},{'role':'assistant','content':'a'}]}", SFT, 0,
       "U:u A:a [sharegpt]"},
      {"{'prompt':'p','completion':'c'}", SFT, 0, "U:p A:c [prompt_completion]"},
      {"{'prompt':[{'role':'user','content':'p'}],'completion':[{'role':'assistant','content':'c'}]}", SFT, 0,
       "U:p A:c [prompt_completion]"},
      {"{'prompt':'\\n\\nHuman: q\\n\\nAssistant:','completion':'c'}", SFT, 0, "U:q A:c [prompt_completion]"},
      {"{'text':'t'}", SFT, 0, "t [text]"},
      {"{'prompt':'p'}", ASK, 0, "U:p [prompts]"},
      {"{'prompt':'p','completion':'c'}", ASK, 0, "U:p = c [prompt_completion]"},
      {"{'prompt':'p','completion':'c','label':false}", ASK, 0, "U:p [unpaired]"},
      {"{'prompt':'p','completion':'c','label':false}", ONE, 0, "U:p A:c bad [unpaired]"},
      {"{'prompt':[{'role':'user','content':'p'}],'completion':[{'role':'assistant','content':'c'}],'label':"
       "true}",
       ONE, 0, "U:p A:c good [unpaired]"},
      {"{'prompt':'p','chosen':'c','rejected':'r'}", ONE, 0, "U:p A:c > U:p A:r [preference]"},
      {"{'prompt':'p','completion':'c','label':true}", ASK, 0, "U:p = c [unpaired]"},
      {"{'prompt':'p','completion':'c','label':true}", SFT, FORMAT_PROMPT_COMPLETION,
       "U:p A:c [prompt_completion]"},
  };
  CHECK(cases);
}

static void tools_and_thoughts_go_with_the_message(void **state) {
  (void)state;
  static const Case cases[] = {
      {"{'messages':[{'role':'user','content':'u'},{'role':'assistant','content':null,'tool_calls':[{'type':"
       "'function'}]},{'role':'tool','content':'4','tool_call_id':'1'},{'role':'assistant','content':'a',"
       "'reasoning_content':'hm'}],'tools':[{'type':'function'}]}",
       SFT, 0, "U:u A+: T+:4 A+:a tools 1 [messages]"},
      {"{'messages':[{'role':'user','content':'u','name':''},{'role':'assistant','content':'a','tool_calls':["
       "]}],"
       "'tools':[]}",
       SFT, 0, "U:u A:a [messages]"},
      {"{'conversations':[{'from':'human','value':'u'},{'from':'function_call','value':'f'},{'from':'"
       "observation',"
       "'value':'o'},{'from':'gpt','value':'a'}],'tools':'[{\\u0022a\\u0022:1},{}]'}",
       SFT, 0, "U:u function_call:f T:o A:a tools 2 [sharegpt]"},
      {"{'messages':[{'role':'developer','content':'d'},{'role':'user','content':[{'type':'text','text':'u'},"
       "{'type':'text','text':'v'},'w']},{'role':'assistant','content':'a'}]}",
       SFT, 0, "developer:d U:uvw A:a [messages]"},
      {"{'prompt':'p','chosen':'c','rejected':'r','tools':[{}]}", PAIR, 0,
       "U:p A:c tools 1 > U:p A:r tools 1 [preference]"},
      {"{'prompt':[{'role':'user','content':'p'}],'tools':[{}]}", ASK, 0, "U:p tools 1 [prompts]"},
  };
  CHECK(cases);
}

static void trees(void **state) {
  (void)state;
  static const Case cases[] = {
      {"{'message_tree_id':'1','prompt':{'text':'p','role':'prompter','replies':["
       "{'text':'b','role':'assistant','rank':1,'replies':[]},"
       "{'text':'a','role':'assistant','rank':0,'replies':["
       "  "
       "{'text':'q','role':'prompter','replies':[{'text':'z','role':'assistant','deleted':true,'replies':[]},"
       "    {'text':'y','role':'assistant','replies':[{'text':'end','role':'prompter','replies':[]}]}]}]},"
       "{'text':'c','role':'assistant','rank':-1,'review_result':false,'replies':[]}]}}",
       SFT, 0, "U:p A:a U:q A:y [oasst]"},
      {"{'prompt':{'text':'p','role':'prompter','replies':[{'text':'a','role':'assistant','replies':null}]}}",
       ASK, 0, "U:p = a [oasst]"},
      {"{'prompt':{'text':'p','role':'prompter','replies':[]}}", SFT, 0, " [oasst]"},
      {"{'prompt':{'text':'p','role':'prompter','replies':[]}}", ASK, 0, " [oasst]"},
  };
  CHECK(cases);
}

/* ---- answers compared ---- */

static void preferences(void **state) {
  (void)state;
  static const Case cases[] = {
      {"{'prompt':'p','chosen':'c','rejected':'r','margin':2}", PAIR, 0,
       "U:p A:c > U:p A:r margin 2 [preference]"},
      {"{'prompt':'p','chosen':'c','rejected':'r','score_chosen':8.5,'score_rejected':3}", PAIR, 0,
       "U:p A:c > U:p A:r scores 8.5 3 [preference]"},
      {"{'prompt':'p','messages':[],'chosen':[{'role':'user','content':'p'},{'role':'assistant','content':'c'"
       "}],"
       "'rejected':[{'role':'user','content':'p'},{'role':'assistant','content':'r'}]}",
       PAIR, 0, "U:p A:c > U:p A:r [preference]"},
      {"{'prompt':[{'role':'user','content':'p'}],'chosen':[{'role':'assistant','content':'c'}],'rejected':"
       "{'role':'assistant','content':'r'}}",
       PAIR, 0, "U:p A:c > U:p A:r [preference]"},
      {"{'context':[{'from':'human','content':'p'}],'chosen':[{'from':'assistant','content':'c'}],'rejected':"
       "[{'from':'assistant','content':'r'}]}",
       PAIR, 0, "U:p A:c > U:p A:r [preference]"},
      {"{'chosen':'\\n\\nHuman: p\\n\\nAssistant: c','rejected':'\\n\\nHuman: p\\n\\nAssistant: r'}", PAIR, 0,
       "U:p A:c > U:p A:r [preference]"},
      {"{'prompt':'\\n\\nHuman: p\\n\\nAssistant:','chosen':'c','rejected':'r'}", PAIR, 0,
       "U:p A:c > U:p A:r [preference]"},
      {"{'prompt':'\\n\\nHuman: p','chosen':'\\n\\nAssistant: c','rejected':'\\n\\nAssistant: r'}", PAIR, 0,
       "U:p A:c > U:p A:r [preference]"},
      {"{'prompt':'p','chosen':'c','rejected':'r'}", ASK, 0, "U:p > U:p A:r = c [preference]"},
      {"{'prompt':'p','responses':['a','b','c'],'scores':[1,2.5,1]}", PAIR, 0,
       "1 U:p A:a | 2.5 U:p A:b | 1 U:p A:c [ranking]"},
      {"{'prompt':'p','responses':['a','b'],'rank':[1,0]}", PAIR, 0, "-1 U:p A:a | -0 U:p A:b [ranking]"},
      {"{'prompt':'p','responses':['a','b','c'],'ranking':[2,0,1]}", PAIR, 0,
       "-2 U:p A:a | -3 U:p A:b | -1 U:p A:c [ranking]"},
      {"{'prompt':'p','responses':[{'response':'a','score':3},{'response':'b','score':4}]}", PAIR, 0,
       "3 U:p A:a | 4 U:p A:b [ranking]"},
      {"{'prompt':'p','responses':[{'answer':'a','rank':1},{'answer':'b','rank':2}]}", PAIR, 0,
       "-1 U:p A:a | -2 U:p A:b [ranking]"},
      {"{'prompt':[{'role':'user','content':'p'}],'responses':[[{'role':'assistant','content':'a'}],{'role':"
       "'assistant','content':'b'}],'scores':[0,1]}",
       PAIR, 0, "0 U:p A:a | 1 U:p A:b [ranking]"},
      {"{'prompt':'p','responses':['a','b'],'scores':[1,2]}", ASK, 0, "U:p = b [ranking]"},
  };
  CHECK(cases);
}

static void pairs_with_two_verdicts(void **state) {
  (void)state;
  static const char record[] =
      "{'prompt':'p','response_0':'x','response_1':'y','better_response_id':0,'safer_response_id':1,"
      "'is_response_0_safe':false,'is_response_1_safe':true}";
  static const Case better[] = {
      {record, PAIR, 0, "U:p A:x > U:p A:y better 1 safer -1 safe -1 1 [safe_pair]"}};
  static const Case safer[] = {
      {record, PAIR, 0, "U:p A:y > U:p A:x better -1 safer 1 safe 1 -1 [safe_pair]"},
      {"{'prompt':'p','response_0':'x','response_1':'y','better_response_id':0}", PAIR, 0,
       "f:7: key 'safer_response_id' is missing, expected 0 or 1 (data.pair_label says which verdict "
       "decides)"}};
  check_cases(better, 1, NULL, false);
  check_cases(safer, 2, NULL, true);
}

/* ---- faults ---- */

static void faults_have_their_messages(void **state) {
  (void)state;
  static const Case cases[] = {
      {"{'question':'q'}", SFT, 0,
       "f:7: no known format has these keys: question; expected instruction + output, instruction + "
       "response, "
       "messages, conversations, prompt + completion, text, chosen + rejected, prompt + responses, prompt + "
       "response_0 + response_1, or prompt (data.columns can rename keys)"},
      {"{'instruction':'i','output':'o','text':'t'}", SFT, 0,
       "f:7: the keys fit more than one format: alpaca (instruction, output) and text (text); say which is "
       "meant by "
       "data.format"},
      {"{'messages':[],'conversations':[]}", SFT, 0,
       "f:7: the keys fit more than one format: messages (messages) and sharegpt (conversations); say which "
       "is "
       "meant by data.format"},
      {"{'prompt':'p','chosen':'c','rejected':'r','messages':[]}", ASK, 0,
       "f:7: the keys fit more than one format: messages (messages) and preference (chosen, rejected); say "
       "which is "
       "meant by data.format"},
      {"{'prompt':'p','chosen':'c','rejected':'r'}", SFT, 0,
       "f:7: the keys are those of preference records, which are no supervised data: reward and dpo learn "
       "from them"},
      {"{'prompt':'p','completion':'c'}", PAIR, 0,
       "f:7: the keys are those of prompt_completion records, which are no preference data: sft learns from "
       "them"},
      {"{'prompt':'p','completion':'c','label':false}", SFT, 0,
       "f:7: unpaired records (prompt, completion, label), which drover dpo --dpo.loss kto learns from; "
       "data.format prompt_completion learns the answers labelled true, and refuses the others (jq -c "
       "'select(.label)' leaves them out)"},
      {"{'prompt':'p','completion':'c','label':false}", PAIR, 0,
       "f:7: unpaired records (prompt, completion, label), which hold no two answers to compare: drover dpo "
       "--dpo.loss kto learns from them"},
      {"{'prompt':'p','completion':'c','label':1}", ONE, 0,
       "f:7: the keys are those of prompt_completion records; answers with a verdict each (KTO) are expected "
       "with a key 'label' that is true or false (data.columns can name another key)"},
      {"{'prompt':'p','completion':'c','label':'true'}", ONE, FORMAT_UNPAIRED,
       "f:7: key 'label': expected true or false, found a string"},
      {"{'prompt':'p','completion':'c','kto_tag':true}", ONE, 0,
       "f:7: the keys are those of prompt_completion records; answers with a verdict each (KTO) are expected "
       "with a key 'label' that is true or false (data.columns can name another key)"},
      {"{'messages':[{'role':'user','content':'p'},{'role':'assistant','content':'c'}],'label':true}", ONE, 0,
       "f:7: the keys are those of messages records; answers with a verdict each (KTO) are expected "
       "'prompt', "
       "'completion' and 'label': jq -c '. + {prompt: .messages[:-1], completion: .messages[-1:]} | "
       "del(.messages)'"},
      {"{'prompt':'p','responses':['a','b'],'scores':[1,2]}", ONE, 0,
       "f:7: the keys are those of ranking records; answers with a verdict each (KTO) are expected 'prompt', "
       "'completion' and 'label'"},
      {"{'prompt':'p','completion':'c','label':false}", SFT, FORMAT_PROMPT_COMPLETION,
       "f:7: key 'label': false marks an undesired answer, which would be learnt; leave these records out "
       "(jq -c "
       "'select(.label)')"},
      {"{'message_id':'1','parent_id':null,'role':'prompter','text':'t'}", SFT, 0,
       "f:7: a single message of Open-Assistant, not a conversation; take the file of trees "
       "(....trees.jsonl.gz)"},
      {"{'instruction':'i','output':3}", SFT, 0, "f:7: key 'output': expected string, found a number"},
      {"{'instruction':'i','response':null}", SFT, 0, "f:7: key 'response': expected string, found null"},
      {"{'messages':{}}", SFT, 0, "f:7: key 'messages': expected list of messages, found an object"},
      {"{'messages':[]}", SFT, 0, "f:7: key 'messages': expected at least one message, found an empty list"},
      {"{'messages':['u']}", SFT, 0, "f:7: key 'messages[0]': expected object, found a string"},
      {"{'messages':[{'content':'u'}]}", SFT, 0, "f:7: key 'messages[0].role' is missing, expected string"},
      {"{'messages':[{'role':'','content':'u'}]}", SFT, 0,
       "f:7: key 'messages[0].role': expected a role, found an empty string"},
      {"{'messages':[{'role':'user','from':'human','content':'u'}]}", SFT, 0,
       "f:7: key 'messages[0]': has both 'role' and 'from'"},
      {"{'messages':[{'role':'user','content':'u','value':'v'}]}", SFT, 0,
       "f:7: key 'messages[0]': has both 'content' and 'value'"},
      {"{'messages':[{'role':'user','content':null,'tool_calls':[{}]}]}", SFT, 0,
       "f:7: key 'messages[0].content': expected string, found null"},
      {"{'messages':[{'role':'assistant'}]}", SFT, 0,
       "f:7: key 'messages[0].content' is missing, expected string"},
      {"{'messages':[{'role':'user','content':[{'type':'image_url','image_url':{}}]}]}", SFT, 0,
       "f:7: key 'messages[0].content[0]': expected a part of type \"text\", found \"image_url\": images, "
       "sound and "
       "other parts are not supported"},
      {"{'messages':[{'role':'user','content':[{'type':'text'}]}]}", SFT, 0,
       "f:7: key 'messages[0].content[0]': expected a part with a string 'text', found an object"},
      {"{'messages':[{'role':'user','content':'u','images':['a.png']}]}", SFT, 0,
       "f:7: key 'messages[0].images': is not supported, and without it the record would mean something "
       "else; take it "
       "out of the records, or leave these records out"},
      {"{'messages':[{'role':'user','content':'u'}],'tools':'search'}", SFT, 0,
       "f:7: key 'tools': expected a list, or a string that is one in JSON"},
      {"{'messages':[{'role':'user','content':'u'}],'tools':{'a':1}}", SFT, 0,
       "f:7: key 'tools': expected list of tools, found an object"},
      {"{'messages':[{'role':'user','content':'u'}],'tools':['search']}", SFT, 0,
       "f:7: key 'tools[0]': expected object, found a string"},
      {"{'conversations':[{'from':'human'}]}", SFT, 0,
       "f:7: key 'conversations[0].value' is missing, expected string"},
      {"{'prompt':{'text':'p','role':'user','replies':[]}}", SFT, 0,
       "f:7: key 'role': expected prompter or assistant in every message of a tree"},
      {"{'prompt':{'text':'p','role':'prompter','replies':{}}}", SFT, 0,
       "f:7: key 'replies': expected list of messages, found an object"},
      {"{'text':['t']}", SFT, 0, "f:7: key 'text': expected string, found a list"},
      {"{'chosen':'c','rejected':'r'}", PAIR, 0,
       "f:7: key 'chosen': a string without a 'prompt' beside it; expected \"\\n\\nHuman: ...\" in it, a "
       "list of "
       "messages, or the key 'prompt'"},
      {"{'prompt':'p','context':[{'from':'human','content':'p'}],'chosen':'c','rejected':'r'}", PAIR, 0,
       "f:7: key 'context': stands beside 'prompt'; expected one of them"},
      {"{'prompt':'p','chosen':'c','rejected':[{'role':'user','content':'u'}]}", PAIR, 0,
       "f:7: key 'rejected': expected to end with an assistant turn"},
      {"{'prompt':'p','chosen':'c','rejected':'r','margin':'2'}", PAIR, 0,
       "f:7: key 'margin': expected number, found a string"},
      {"{'prompt':'p','chosen':'c','rejected':'r','score_chosen':1,'score_rejected':2}", PAIR, 0,
       "f:7: key 'score_chosen': is less than score_rejected: which side is the better one?"},
      {"{'prompt':'p','responses':['a'],'scores':[1]}", PAIR, 0,
       "f:7: key 'responses': expected at least two answers"},
      {"{'prompt':'p','responses':['a','b'],'scores':[1]}", PAIR, 0,
       "f:7: key 'scores': expected 2 items, one for each answer, found 1"},
      {"{'prompt':'p','responses':['a','b'],'scores':[1,null]}", PAIR, 0,
       "f:7: key 'scores[1]': expected number, found null"},
      {"{'prompt':'p','responses':['a','b'],'scores':[1,2],'rank':[1,2]}", PAIR, 0,
       "f:7: more than one of 'scores', 'rank' and 'ranking'; expected one"},
      {"{'prompt':'p','responses':['a','b'],'ranking':[1,2]}", PAIR, 0,
       "f:7: key 'ranking': expected each of the numbers 0 to 1 once, the best first"},
      {"{'prompt':'p','responses':['a','b']}", PAIR, 0,
       "f:7: key 'responses[0]': expected 'scores', 'rank' or 'ranking' beside the answers, or 'score' or "
       "'rank' in "
       "each of them"},
      {"{'prompt':'p','responses':[{'response':'a','score':1},{'response':'b','rank':1}]}", PAIR, 0,
       "f:7: key 'responses[1]': some answers have a 'score' and others a 'rank'"},
      {"{'prompt':'p','response_0':'x','response_1':'y','better_response_id':2}", PAIR, 0,
       "f:7: key 'better_response_id': expected 0 or 1, found a number"},
      {"{'messages':[{'role':'assistant','content':'a'}]}", ASK, 0,
       "f:7: no turn before the assistant's: nothing to answer"},
  };
  CHECK(cases);
}

/* ---- columns ---- */

static void columns_rename_and_are_named(void **state) {
  (void)state;
  static const Case cases[] = {
      {"{'question':'q','answer':'a','id':3}", SFT, 0, "U:q A:a [prompt_completion]"},
      {"{'question':'q','answer':4}", SFT, 0,
       "f:7: key 'answer': expected string or list of messages, found a number"},
      {"{'question':[{'role':'user'}],'answer':'a'}", SFT, 0,
       "f:7: key 'question[0].content' is missing, expected string"},
      {"{'question':'q'}", SFT, FORMAT_PROMPT_COMPLETION,
       "f:7: key 'answer' is missing, expected string or list of messages"},
      {"{'question':'q','answer':'a','prompt':'other'}", SFT, 0, "U:q A:a [prompt_completion]"},
      {"{'prompt':'other','answer':'a'}", SFT, FORMAT_PROMPT_COMPLETION,
       "f:7: key 'question' is missing, expected string or list of messages"}};
  check_cases(cases, sizeof cases / sizeof *cases, "{\"prompt\": \"question\", \"completion\": \"answer\"}",
              false);
  static const Case swapped[] = {
      {"{'prompt':'p','chosen':'bad','rejected':'good'}", PAIR, 0, "U:p A:good > U:p A:bad [preference]"}};
  check_cases(swapped, 1, "{\"chosen\": \"rejected\", \"rejected\": \"chosen\"}", false);
}

static void columns_that_mean_nothing_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *text;
    DatasetFormat format;
    const char *message;
  } table[] = {
      {"{\"promt\": \"q\"}", 0,
       "data.train: data.columns: no format has a key 'promt'; did you mean 'prompt'?"},
      {"{\"messages\": \"q\"}", FORMAT_ALPACA, "data.train: data.columns: alpaca has no key 'messages'"},
      {"{\"prompt\": 3}", 0,
       "data.train: data.columns: key 'prompt': expected the name of a column, found a number"},
      {"{\"prompt\": \"\"}", 0,
       "data.train: data.columns: key 'prompt': expected the name of a column, found an empty string"},
      {"{\"prompt\": \"a\", \"completion\": \"a\"}", 0,
       "data.train: data.columns: 'prompt' and 'completion' are the same column 'a'"},
      {"[]", 0, "data.train: data.columns: expected an object of names"}};
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    Columns columns;
    Error error = {0};
    assert_false(columns_open(&columns, table[i].text, table[i].format, "data.train", &error));
    assert_int_equal(error.code, ERROR_USAGE);
    if (strcmp(error.message, table[i].message) != 0) fail_msg("%s", error.message);
  }
}

/* ---- the manual ---- */

/* Rows "| `format` | for | `{...}` |" of docs/data.md: each record is what its row calls it. */
static void the_manual_shows_what_is_read(void **state) {
  (void)state;
  char line[1024], name[32] = "";
  size_t read = 0;
  FILE *file = fopen(FIXTURES "/../../docs/data.md", "rb");
  assert_non_null(file);
  while (fgets(line, sizeof line, file)) {
    if (strncmp(line, "| `", 3) == 0)
      snprintf(name, sizeof name, "%.*s", (int)strcspn(line + 3, "`"), line + 3);
    char *record = strstr(line, "`{\""), *end = record ? strstr(record, "}`") : NULL;
    if (line[0] != '|' || !end) continue;
    json_error_t where;
    json_t *root = json_parse(record + 1, (size_t)(end - record), json_limit_record, 0, &where);
    if (!root) continue; /* a row that names values instead of having them */
    const RecordPlace place = {.file = "data.md", .line = read + 1};
    DatasetFormat format;
    DatasetKind kind;
    Error error = {0};
    Record parsed = {0};
    if (!record_detect_kind(root, place, &format, &kind, &error) ||
        !record_parse(&parsed, root, kind, format, place, &error)) {
      fail_msg("%s: %s", line, error.message);
    }
    assert_string_equal(dataset_format_names[format], name);
    record_free(&parsed);
    json_decref(root);
    read++;
  }
  fclose(file);
  assert_true(read >= FORMAT_COUNT - 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(conversations),
                                     cmocka_unit_test(tools_and_thoughts_go_with_the_message),
                                     cmocka_unit_test(trees),
                                     cmocka_unit_test(preferences),
                                     cmocka_unit_test(pairs_with_two_verdicts),
                                     cmocka_unit_test(faults_have_their_messages),
                                     cmocka_unit_test(columns_rename_and_are_named),
                                     cmocka_unit_test(columns_that_mean_nothing_are_refused),
                                     cmocka_unit_test(the_manual_shows_what_is_read)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
