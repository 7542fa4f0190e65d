"""`seqjax generate`."""

from support.shell import call

from seqjax import Run


def test_generate_continues_the_prompt(run_):
    printed = call("generate", run_, "--prompt", "the ", "--length", 17).stdout
    assert printed == Run.open(run_).generate("the ", 17) + "\n"
    assert printed.startswith("the ")
    assert len(printed) == len("the ") + 17 + 1
    assert len(call("generate", run_).stdout) == 200 + 1  # nothing but the defaults
    hot = [call("generate", run_, "--prompt", "the", "--temperature", 2, "--seed", seed).stdout for seed in (0, 0, 1)]
    assert hot[0] == hot[1] != hot[2]
    assert call("generate", run_, "--prompt", "für 🎉", "--length", 0).stdout == "für 🎉\n"


def test_generate_continues_several_prompts_one_text_each(run_):
    prompts = ["the", "für 🎉", "", "a dog"]
    options = ["--length", 9, "--temperature", 1.5, "--seed", 4]
    printed = call("generate", run_, "--prompt", *prompts, *options).stdout
    assert printed == "".join(call("generate", run_, "--prompt", prompt, *options).stdout for prompt in prompts)
    assert printed.splitlines() == Run.open(run_).generate(prompts, 9, 1.5, seed=4)


def test_generate_chooses_among_the_likeliest(run_):
    greedy = call("generate", run_, "--prompt", "the", "--length", 30).stdout
    hot = ["generate", run_, "--prompt", "the", "--length", 30, "--temperature", 3]
    assert call(*hot, "--top-k", 1).stdout == call(*hot, "--top_p=1e-6").stdout == greedy
    limited = call(*hot, "--top-k", 4, "--top-p", 0.9, "--seed", 2).stdout
    assert limited == Run.open(run_).generate("the", 30, 3.0, top_k=4, top_p=0.9, seed=2) + "\n"
    assert limited != greedy


def test_generate_takes_unknown_characters_with_the_flag(run_):
    printed = call("generate", run_, "--prompt", "the €uro", "--length", 5, "--unknown").stdout
    assert printed == Run.open(run_).generate("the €uro", 5, unknown=True) + "\n"
    assert printed.startswith("the <unk>uro")
